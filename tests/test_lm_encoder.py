"""Encoders see both sides and nothing beyond their document; they are trained on hidden symbols and resume exactly."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from test_lm_contract import T, V, lively
from test_lm_train import TASK, same

from experiments.harness.runs import Run, run_id
from lm.checkpoint import load, save
from lm.config import BOTH_WAYS, ModelConfig, TrainConfig
from lm.convert import to_transformers
from lm.data import feed
from lm.generate import generate
from lm.masking import IGNORED, RATE
from lm.model import Decoder, build
from lm.parameters import count_parameters, flops_per_token
from lm.train import train
from probing.likelihood import log_probabilities
from synth import Corpus, get_task
from synth.errors import UserError

CASES = {f"{p}-{flavour}": (p, flavour) for p, flavour in product(BOTH_WAYS, ("gpt2", "llama"))}
SMALL = ModelConfig(2, 2, 16, context=32, causal=False)
OLD_ID = "a307f1af809a"  # of a causal run, from before there was anything else
CONFIG = TrainConfig(steps=12, batch=4, window=32, lr=1e-2, warmup=2, objective="masked")
IDS = SMALL.ids(TASK.vocab())


@pytest.fixture(params=CASES.values(), ids=CASES)
def model(request: pytest.FixtureRequest) -> Decoder:
    positions, flavour = request.param
    return lively(getattr(ModelConfig, flavour)(2, 3, 24, context=32, positions=positions, causal=False)).eval()


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


def reach(model: Decoder, inputs: torch.Tensor, documents: torch.Tensor | None, at: int) -> torch.Tensor:
    """How much the logits at one position depend on every position's embedding (T,)."""
    seen: list[torch.Tensor] = []
    original = model.embedded
    model.embedded = lambda *a: seen.append(original(*a).detach().requires_grad_()) or seen[-1]  # type: ignore[method-assign]
    logits = model(inputs, documents)
    assert logits.shape == (*inputs.shape, V)
    logits[:, at].square().sum().backward()
    del model.embedded
    return seen[0].grad.abs().sum((0, 2))


def test_every_position_sees_both_sides(model: Decoder, inputs: torch.Tensor) -> None:
    for at in (0, 10, T - 1):
        assert (reach(model, inputs, None, at) > 0).all()


def test_a_document_sees_itself_alone(model: Decoder, inputs: torch.Tensor) -> None:
    cuts = [0, 9, 14, T]
    documents = torch.zeros_like(inputs)
    documents[:, 9:14], documents[:, 14:] = 1, 2
    seen = reach(model, inputs, documents, 10)
    assert (seen[9:14] > 0).all() and (seen[:9] == 0).all() and (seen[14:] == 0).all()
    together = model(inputs, documents)
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        torch.testing.assert_close(together[:, a:b], model(inputs[:, a:b]), rtol=1e-4, atol=1e-4)


def test_order_matters_and_company_does_not(model: Decoder, inputs: torch.Tensor) -> None:
    torch.testing.assert_close(model(inputs)[1:2], model(inputs[1:2]), rtol=1e-4, atol=1e-4)
    turned = model(inputs.flip(1)).flip(1)
    assert not torch.allclose(turned, model(inputs), rtol=1e-2, atol=1e-2), "left and right are told apart by nothing"


def test_gradient_reaches_every_parameter(model: Decoder) -> None:
    inputs = torch.randint(V, (3, 32), generator=torch.Generator().manual_seed(1))  # the context: all distances
    model(inputs).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        if name == "positions.weight":
            assert (parameter.grad.abs().sum(1) > 0).all()


def test_save_and_load(model: Decoder, inputs: torch.Tensor, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config == model.config and not again.config.causal
    assert torch.equal(again(inputs), model(inputs))


def test_relative_encoder_is_the_written_formula() -> None:
    model = lively(ModelConfig(1, 2, 8, context=16, positions="relative", causal=False))
    assert count_parameters(model)["embedding"] == 8 * (V + 31)
    for n in (1, 9, 16):
        mixer, x = model.blocks[0].mixer, torch.randn(1, n, 8)
        q, k, v = mixer.qkv(x)[0].view(n, 3, 2, 4).unbind(1)
        qr, kr = mixer.distance_qk(model.positions.weight).view(31, 2, 2, 4).unbind(1)
        mixed = torch.zeros(n, 2, 4)
        for i, h in product(range(n), range(2)):
            far = [i - j + 15 for j in range(n)]  # row 15 is distance 0
            scores = torch.stack(
                [q[i, h] @ k[j, h] + q[i, h] @ kr[far[j], h] + qr[far[j], h] @ k[j, h] for j in range(n)]
            )
            mixed[i, h] = (scores / (3 * 4) ** 0.5).softmax(0) @ v[:, h]
        torch.testing.assert_close(mixer(x, model.places(n))[0], mixer.out(mixed.flatten(1)), rtol=1e-4, atol=1e-5)


def test_weights_are_those_of_the_output() -> None:
    model = lively(ModelConfig(1, 2, 8, context=16, positions="relative", causal=False))
    mixer, x, places = model.blocks[0].mixer, torch.randn(3, 9, 8), model.places(9)
    weights = mixer.weights(x, places)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 9))
    values = mixer.qkv(x)[..., 16:].view(3, 9, 2, 4).transpose(1, 2)
    torch.testing.assert_close(mixer.out((weights @ values).transpose(1, 2).flatten(2)), mixer(x, places))


def test_what_an_encoder_cannot_do_is_refused(inputs: torch.Tensor) -> None:
    model = lively(replace(SMALL, positions="learned"))
    with pytest.raises(UserError, match="causal=True"):
        generate(model, [np.array([0])], 5)
    with pytest.raises(UserError, match="likelihood.*causal=True"):
        log_probabilities(model, [np.array([0, 1, 2])])
    with pytest.raises(UserError, match="^causal=False"):
        to_transformers(model)
    with pytest.raises(UserError, match="positions=uniform needs causal=True"):
        replace(SMALL, positions="uniform")
    flops = [flops_per_token(replace(SMALL, positions="relative", causal=c), V, 32) for c in (True, False)]
    assert flops[1] - flops[0] == 3 * 4 * 2 * 16 * 32  # twice as many distances for two of four products


def test_encoders_in_transformers(inputs: torch.Tensor, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    import lm.hf  # noqa: F401

    model = lively(SMALL).eval()
    save(model, tmp_path / "model")
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    real = torch.ones_like(inputs)
    real[:, 20:] = 0
    given = theirs(inputs, attention_mask=real).logits[:, :20]
    torch.testing.assert_close(given, model(inputs[:, :20]), rtol=1e-4, atol=1e-4)
    labels = torch.full_like(inputs, -100)
    labels[0, 5] = 3
    expected = -model(inputs)[0, 5].log_softmax(-1)[3]
    torch.testing.assert_close(theirs(inputs, labels=labels).loss, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="generation needs a causal model"):
        theirs.generate(inputs, max_new_tokens=2)


# ---- training ------------------------------------------------------------------------------------------------------


def test_a_model_and_an_objective_must_fit() -> None:
    causal = build(replace(SMALL, causal=True), IDS, 0)
    with pytest.raises(UserError, match="objective=masked does not train a model with causal=True"):
        train(causal, TASK, CONFIG, 0)
    with pytest.raises(UserError, match="objective=causal does not train a model with causal=False"):
        train(build(SMALL, IDS, 0), TASK, replace(CONFIG, objective="causal"), 0)
    with pytest.raises(UserError, match=f"vocab_size={IDS}"):
        train(build(SMALL, IDS - 1, 0), TASK, CONFIG, 0)
    with pytest.raises(UserError, match="isolate=True"):
        replace(CONFIG, packing="none")


def test_the_rule_of_masking() -> None:
    corpus = Corpus(TASK, 0, window=64)
    config = replace(CONFIG, batch=400, window=64)
    data, plain = (
        feed(corpus, config, corpus.start()),
        feed(corpus, replace(config, objective="causal"), corpus.start()),
    )
    before, after, targets = plain.inputs.numpy(), data.inputs.numpy(), data.targets.numpy()
    asked = targets != IGNORED
    symbols = (before > 0) & (before < corpus.vocab.eos)
    assert not (asked & ~symbols).any() and data.trained == asked.sum()
    assert np.array_equal(targets[asked], before[asked])
    assert np.array_equal(before[~asked], after[~asked])
    assert asked.sum() / symbols.sum() == pytest.approx(RATE, abs=0.01)
    hidden, kept = after[asked] == corpus.vocab.size, after[asked] == before[asked]
    assert hidden.mean() == pytest.approx(0.8, abs=0.03)
    assert kept.mean() == pytest.approx(0.1 + 0.1 / 5, abs=0.02)  # of five symbols one is drawn again
    drawn = after[asked & (after != before) & (after != corpus.vocab.size)]
    assert set(drawn.tolist()) == set(range(1, 6))
    assert data.tokens == plain.tokens and data.ended == plain.ended and data.cursor == plain.cursor


def test_masks_are_a_pure_function_of_the_cursor() -> None:
    def at(corpus: Corpus, cursor, config: TrainConfig = CONFIG) -> torch.Tensor:
        return feed(corpus, config, cursor).targets

    corpus = Corpus(TASK, 0, window=32)
    second = feed(corpus, CONFIG, corpus.start()).cursor
    assert torch.equal(at(corpus, second), at(Corpus(TASK, 0, window=32), second))
    assert not torch.equal(at(corpus, second), at(Corpus(TASK, 0, window=32, order=1), second))
    assert not torch.equal(at(corpus, second), at(corpus, corpus.start()))


def test_the_loss_is_of_hidden_places_only() -> None:
    """The first step's logged loss is the mean over them, taken by hand."""
    model, config = build(replace(SMALL, tied=False), IDS, 0), replace(CONFIG, steps=1)
    expected, data = 0.0, feed(Corpus(TASK, 0, window=32), config, Corpus(TASK, 0).start())
    with torch.no_grad():
        said = model(data.inputs).log_softmax(-1)
    for row, place in (data.targets != IGNORED).nonzero().tolist():
        expected -= float(said[row, place, data.targets[row, place]]) / data.trained
    assert 0 < data.trained < 4 * 32 * 0.4
    assert train(model, TASK, config, 0, log_every=1)[0]["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("positions", BOTH_WAYS)
def test_resume_is_exact(positions: str, tmp_path: Path) -> None:
    whole, broken, again = (build(replace(SMALL, positions=positions), IDS, 0) for _ in range(3))
    train(whole, TASK, replace(CONFIG, isolate=True), 0)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    settings = {"folder": tmp_path, "checkpoint_every": 2, "log_every": 1}
    with pytest.raises(KeyboardInterrupt):
        train(broken, TASK, replace(CONFIG, isolate=True), 0, progress=interrupt, **settings)
    train(again, TASK, replace(CONFIG, isolate=True), 0, **settings)
    assert same(whole, again)


def test_accumulation_is_one_large_batch() -> None:
    whole, parts = build(SMALL, IDS, 0), build(SMALL, IDS, 0)
    train(whole, TASK, replace(CONFIG, steps=4), 0)
    train(parts, TASK, replace(CONFIG, steps=4, accumulate=4), 0)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("positions", BOTH_WAYS)
def test_an_encoder_learns_from_both_sides(positions: str) -> None:
    """Counting: a hidden number follows from any other. The first stands after <bos>: only its right side tells."""
    model = build(replace(SMALL, positions=positions, width=32, init_std=0.15), IDS, 0)
    history = train(model, TASK, replace(CONFIG, steps=300, batch=16, warmup=10, isolate=True), 0, log_every=50)
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
    import lm.train

    config, small = replace(CONFIG, objective="causal"), replace(SMALL, causal=True)
    whole, broken, again = (build(small, TASK.vocab().size, 0) for _ in range(3))
    train(whole, TASK, config, 0)
    identify = lm.train.identity_of

    def before(*args):
        identity = json.loads(json.dumps(identify(*args)))
        del identity["model"]["causal"], identity["train"]["objective"]
        return identity

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(lm.train, "identity_of", before)
    with pytest.raises(KeyboardInterrupt):
        train(broken, TASK, config, 0, folder=tmp_path, checkpoint_every=2, log_every=1, progress=interrupt)
    monkeypatch.undo()
    train(again, TASK, config, 0, folder=tmp_path, log_every=1)
    assert same(whole, again)
