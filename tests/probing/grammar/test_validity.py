"""The validity instrument against planted answers: a model that is the truth, one that knows nothing, one that lies."""

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.inference.batching import ragged_batches
from lm.model import Decoder
from probing.grammar import validity
from probing.grammar.validity import Validity, are_valid, duplicate_share
from probing.scoring.likelihood import log_probabilities, target_log_probabilities
from synth import Corpus, UserError, cfg, get_task

TASK = get_task("cfg3f", root="13")
GRAMMAR, VOCAB = TASK.world(0), TASK.vocab()


class Exact(Decoder):
    """Logits that are the true next-token distribution of the grammar; `blur` mixes in the uniform distribution."""

    def __init__(self, blur: float = 0.0) -> None:
        super().__init__(ModelConfig(1, 1, 8, max_seq_len=64), VOCAB.size)
        self.blur = blur

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        rows = np.full((*inputs.shape, VOCAB.size), 1e-12)
        for i, row in enumerate(inputs.numpy()):
            sentence = row[1:][row[1:] > 0] - 1  # padding is id 0 and stands to the right
            sentence = sentence[sentence < 3].astype(np.int32)
            truth = cfg.next_token(GRAMMAR, sentence, np.array([0, len(sentence)]))
            rows[i, : len(truth), 1 : VOCAB.eos + 1] += truth
        uniform = np.zeros(VOCAB.size)
        uniform[1 : VOCAB.eos + 1] = 1 / 4
        return torch.from_numpy(np.log((1 - self.blur) * rows + self.blur * uniform + 1e-30))


def true_sentences(model, prompts, room, temperature, eos, seed, progress):
    block = Corpus(TASK, 99, "valid").documents(0, len(prompts))
    return [block[i].tokens[len(prompts[0]) :] for i in range(len(prompts))]


def test_a_model_that_is_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validity, "generate", true_sentences)
    row = Validity(samples=400, cuts=(0,), kl_sentences=200).measure(Exact(), TASK, 0, 0)
    assert row["valid_0"] == 1 and row["unfinished_0"] == 0
    assert abs(row["kl"]) < 1e-6
    assert row["loss"] == pytest.approx(row["loss_floor"], abs=0.02)
    assert row["bits"] == pytest.approx(row["bits_truth"], abs=0.3)  # 400 sentences, 2.7 bits apart
    assert abs(row["duplicates"] - row["duplicates_truth"]) < 0.03


def test_a_model_that_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform over the three terminals and the end: its divergence is log 4 minus the true entropy of a token."""

    def noise(model, prompts, room, temperature, eos, seed, progress):
        draw = np.random.default_rng(seed)
        return [np.append(draw.integers(1, 4, 17), eos).astype(np.int32) for _ in prompts]

    monkeypatch.setattr(validity, "generate", noise)
    row = Validity(samples=300, cuts=(0, 4), kl_sentences=400).measure(Exact(blur=1.0), TASK, 0, 0)
    assert row["valid_0"] < 0.02 and row["valid_4"] < 0.02
    assert row["loss"] == pytest.approx(np.log(4), abs=1e-4)
    assert row["kl"] == pytest.approx(np.log(4) - row["loss_floor"], abs=0.02)


def test_a_model_that_always_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Corpus(TASK, 0).documents(0, 1)[0].tokens[1:]
    monkeypatch.setattr(validity, "generate", lambda model, prompts, *a, **k: [one] * len(prompts))
    row = Validity(samples=100, cuts=(0,), kl_sentences=10).measure(Exact(), TASK, 0, 0)
    assert row["valid_0"] == 1 and row["duplicates"] == pytest.approx(0.99)


def test_what_is_no_finished_sentence_is_not_valid() -> None:
    good = Corpus(TASK, 0).documents(0, 1)[0].tokens
    cases = [good, good[:-1], np.append(good, good[-1]), np.insert(good, 3, VOCAB.pad), np.insert(good, 3, 0), good[:1]]
    assert are_valid(GRAMMAR, cases, VOCAB.eos).tolist() == [True, False, False, False, False, False]
    assert duplicate_share([good, good, good[:3]]) == pytest.approx(1 / 3)


def test_likelihood_does_not_depend_on_the_company() -> None:
    documents = [Corpus(TASK, 0).documents(i, i + 1)[0].tokens for i in range(9)]
    together = log_probabilities(Exact(0.1), documents)
    for document, rows in zip(documents, together, strict=True):
        alone = log_probabilities(Exact(0.1), [document])[0]
        assert rows.shape == (len(document) - 1, VOCAB.size) and np.allclose(rows, alone, atol=1e-6)
    spoken = target_log_probabilities(Exact(), documents)
    exact = [cfg.log_probability(GRAMMAR, d[1:-1] - 1, np.array([0, len(d) - 2]))[0] for d in documents]
    assert np.allclose([s.sum() for s in spoken], exact, atol=1e-4)


def test_batches_cover_everything_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 200)
    batches = list(ragged_batches(lengths, 1000))
    assert sorted(np.concatenate(batches)) == list(range(200))
    assert all(len(b) == 1 or lengths[b].max() * len(b) <= 1000 for b in batches)


def test_sentences_of_the_training_stream_are_told_from_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that recites its training data knows all it writes; the truth itself knows what chance repeats."""

    def recite(model, prompts, *args, **kwargs):
        block = Corpus(TASK, 0, "train").documents(0, len(prompts))
        return [block[i].tokens[1:] for i in range(len(prompts) - 1)] + [np.array([1, 1, 4], np.int32)]

    monkeypatch.setattr(validity, "generate", recite)
    row = Validity(samples=200, cuts=(0,), kl_sentences=200, trained_tokens=10_000).measure(Exact(), TASK, 0, 0)
    assert row["known_0"] == pytest.approx(199 / 200) and row["valid_new_0"] == 0
    assert row["known_truth"] < 0.1 and abs(row["kl_new"]) < 1e-6


@pytest.mark.parametrize("settings", [{"samples": 0}, {"cuts": ()}, {"cuts": (-1,)}, {"temperature": 0.0}])
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(UserError, match="at least 1"):
        Validity(**settings)


def test_a_cut_longer_than_the_sentences_names_the_mend() -> None:
    with pytest.raises(UserError, match="smaller cut"):
        Validity(samples=4, cuts=(50,), kl_sentences=4).measure(Exact(), TASK, 0, 0)
