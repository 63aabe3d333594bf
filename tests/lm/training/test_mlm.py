"""Training on hidden symbols: which are hidden, what the loss is, exact resume, and causal runs as they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.harness.run import Run, run_id
from lm.config import TrainConfig
from lm.data.batches import make_batch
from lm.data.mlm import IGNORE_INDEX, MASK_RATE
from lm.model import build
from lm.options import BIDIRECTIONAL
from lm.training.loop import train
from synth import Corpus, get_task
from synth.errors import UserError
from tests.lm.test_encoder import SMALL
from tests.lm.training.test_loop import TASK, same

OLD_ID = "a307f1af809a"  # of a causal run, from before there was anything else
CONFIG = TrainConfig(steps=12, batch_size=4, seq_len=32, lr=1e-2, warmup_steps=2, objective="masked")
IDS = SMALL.model_vocab_size(TASK.vocab())


def test_a_model_and_an_objective_must_fit() -> None:
    causal = build(replace(SMALL, causal=True), IDS, 0)
    with pytest.raises(UserError, match="objective=masked does not train a model with causal=True"):
        train(causal, TASK, CONFIG, 0)
    with pytest.raises(UserError, match="objective=causal does not train a model with causal=False"):
        train(build(SMALL, IDS, 0), TASK, replace(CONFIG, objective="causal"), 0)
    with pytest.raises(UserError, match=f"vocab_size={IDS}"):
        train(build(SMALL, IDS - 1, 0), TASK, CONFIG, 0)
    with pytest.raises(UserError, match="document_mask=True"):
        replace(CONFIG, packing="none")


def test_the_rule_of_masking() -> None:
    corpus = Corpus(TASK, 0, seq_len=64)
    config = replace(CONFIG, batch_size=400, seq_len=64)
    data, plain = (
        make_batch(corpus, config, corpus.start()),
        make_batch(corpus, replace(config, objective="causal"), corpus.start()),
    )
    before, after, targets = plain.inputs.numpy(), data.inputs.numpy(), data.targets.numpy()
    asked = targets != IGNORE_INDEX
    symbols = (before > 0) & (before < corpus.vocab.eos)
    assert not (asked & ~symbols).any() and data.num_targets == asked.sum()
    assert np.array_equal(targets[asked], before[asked])
    assert np.array_equal(before[~asked], after[~asked])
    assert asked.sum() / symbols.sum() == pytest.approx(MASK_RATE, abs=0.01)
    hidden, kept = after[asked] == corpus.vocab.size, after[asked] == before[asked]
    assert hidden.mean() == pytest.approx(0.8, abs=0.03)
    assert kept.mean() == pytest.approx(0.1 + 0.1 / 5, abs=0.02)  # of five symbols one is drawn again
    drawn = after[asked & (after != before) & (after != corpus.vocab.size)]
    assert set(drawn.tolist()) == set(range(1, 6))
    assert (
        data.num_tokens == plain.num_tokens
        and data.num_documents == plain.num_documents
        and data.cursor == plain.cursor
    )


def test_masks_are_a_pure_function_of_the_cursor() -> None:
    def at(corpus: Corpus, cursor, config: TrainConfig = CONFIG) -> torch.Tensor:
        return make_batch(corpus, config, cursor).targets

    corpus = Corpus(TASK, 0, seq_len=32)
    second = make_batch(corpus, CONFIG, corpus.start()).cursor
    assert torch.equal(at(corpus, second), at(Corpus(TASK, 0, seq_len=32), second))
    assert not torch.equal(at(corpus, second), at(Corpus(TASK, 0, seq_len=32, order_seed=1), second))
    assert not torch.equal(at(corpus, second), at(corpus, corpus.start()))


def test_the_loss_is_of_hidden_places_only() -> None:
    """The first step's logged loss is the mean over them, taken by hand."""
    model, config = build(replace(SMALL, tie_embeddings=False), IDS, 0), replace(CONFIG, steps=1)
    expected, data = 0.0, make_batch(Corpus(TASK, 0, seq_len=32), config, Corpus(TASK, 0).start())
    with torch.no_grad():
        said = model(data.inputs).log_softmax(-1)
    for row, place in (data.targets != IGNORE_INDEX).nonzero().tolist():
        expected -= float(said[row, place, data.targets[row, place]]) / data.num_targets
    assert 0 < data.num_targets < 4 * 32 * 0.4
    assert train(model, TASK, config, 0, log_every=1)[0]["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("positions", BIDIRECTIONAL)
def test_resume_is_exact(positions: str, tmp_path: Path) -> None:
    whole, broken, again = (build(replace(SMALL, positions=positions), IDS, 0) for _ in range(3))
    train(whole, TASK, replace(CONFIG, document_mask=True), 0)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    settings = {"folder": tmp_path, "checkpoint_every": 2, "log_every": 1}
    with pytest.raises(KeyboardInterrupt):
        train(broken, TASK, replace(CONFIG, document_mask=True), 0, on_step=interrupt, **settings)
    train(again, TASK, replace(CONFIG, document_mask=True), 0, **settings)
    assert same(whole, again)


def test_accumulation_is_one_large_batch() -> None:
    whole, parts = build(SMALL, IDS, 0), build(SMALL, IDS, 0)
    train(whole, TASK, replace(CONFIG, steps=4), 0)
    train(parts, TASK, replace(CONFIG, steps=4, grad_accum_steps=4), 0)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("positions", BIDIRECTIONAL)
def test_an_encoder_learns_from_both_sides(positions: str) -> None:
    """Counting: a hidden number follows from any other. The first stands after <bos>: only its right side tells."""
    model = build(replace(SMALL, positions=positions, d_model=32, init_std=0.15), IDS, 0)
    history = train(
        model, TASK, replace(CONFIG, steps=300, batch_size=16, warmup_steps=10, document_mask=True), 0, log_every=50
    )
    assert history[-1]["loss"] < 0.5  # who knows nothing has log 5 = 1.6
    documents = Corpus(TASK, 0, "test").documents(0, 100)
    right = []
    for a, b in zip(documents.offsets[:-1], documents.offsets[1:], strict=True):
        tokens = torch.from_numpy(documents.tokens[a:b].astype(np.int64))[None]
        tokens[0, 1] = IDS - 1
        with torch.inference_mode():
            right.append(int(model.eval()(tokens)[0, 1].argmax()) == documents.tokens[a + 1])
    assert np.mean(right) > 0.9


def test_causal_runs_stay_what_they_were() -> None:
    """An id from before there were encoders, and a checkpoint that knows none of the fields that came later."""
    run = Run("old", get_task("cfg3b"), replace(SMALL, causal=True), TrainConfig(steps=3))
    assert run_id(run) == OLD_ID
    assert run_id(replace(run, model=SMALL)) != OLD_ID
    assert run_id(replace(run, train=TrainConfig(steps=3, objective="masked"))) != OLD_ID


def test_a_checkpoint_from_before_encoders_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lm.training.loop

    config, small = replace(CONFIG, objective="causal"), replace(SMALL, causal=True)
    whole, broken, again = (build(small, TASK.vocab().size, 0) for _ in range(3))
    train(whole, TASK, config, 0)
    identify = lm.training.loop.run_fingerprint

    def before(*args):
        identity = json.loads(json.dumps(identify(*args)))
        del identity["model"]["causal"], identity["train"]["objective"]
        return identity

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(lm.training.loop, "run_fingerprint", before)
    with pytest.raises(KeyboardInterrupt):
        train(broken, TASK, config, 0, folder=tmp_path, checkpoint_every=2, log_every=1, on_step=interrupt)
    monkeypatch.undo()
    train(again, TASK, config, 0, folder=tmp_path, log_every=1)
    assert same(whole, again)
