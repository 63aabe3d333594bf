"""Completions of corrupted prefixes: the instrument against planted writers, and experiment 04 on planted tables."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lm.config import ModelConfig
from lm.model import Decoder
from probing.grammar import robustness
from probing.grammar.robustness import (
    PREFIXES,
    Robustness,
    begins_sentence,
    corrupt_tokens,
    grade_completions,
    take_prefixes,
)
from synth import Corpus, UserError, get_task

TASK = get_task("cfg3b-random", root="16")
GRAMMAR, VOCAB = TASK.world(0), TASK.vocab()
PLAIN = get_task("cfg3b", root="16")
TRUTH = Corpus(PLAIN, 0, "test").documents(0, 300)
ASKED = Robustness(300, 20)


def measured(monkeypatch: pytest.MonkeyPatch, writer, task=TASK) -> dict[tuple[str, float], dict]:
    """The rows of a model that continues the n-th prefix by writer(n, prefix, temperature)."""

    def generate(model, prompts, room, temperature, eos, seed, progress):
        return [np.asarray(writer(n, prompt, temperature), np.int32)[:room] for n, prompt in enumerate(prompts)]

    monkeypatch.setattr(robustness, "generate", generate)
    rows = ASKED.measure(Decoder(ModelConfig(1, 1, 8, max_seq_len=80), VOCAB.size), task, 0, 0)
    assert [(row["prefix"], row["temperature"]) for row in rows] == [(p, t) for p in PREFIXES for t in (0.1, 0.2, 1.0)]
    return {(row["prefix"], row["temperature"]): row for row in rows}


def rest(n: int, prefix: np.ndarray) -> np.ndarray:
    """How sentence n really goes on."""
    return TRUTH[n].tokens[len(prefix) :]


def test_a_writer_that_sees_through_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measured(monkeypatch, lambda n, prefix, temperature: rest(n, prefix))
    assert all(row["valid"] == 1 and row["unfinished"] == 0 for row in rows.values())
    assert rows["none", 0.1]["floor"] == 1 and rows["clean", 0.1]["floor"] == rows["corrupted", 0.1]["floor"] < 0.2
    assert rows["clean", 0.2]["unchanged"] == rows["clean", 0.2]["possible"] == 1


def test_a_writer_that_a_fault_puts_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the sentences, and stops where it reads something else."""

    def writer(n: int, prefix: np.ndarray, temperature: float) -> np.ndarray:
        return rest(n, prefix) if np.array_equal(prefix, TRUTH[n].tokens[: len(prefix)]) else np.array([VOCAB.eos])

    rows = measured(monkeypatch, writer)
    assert rows["clean", 1.0]["valid"] == 1
    row = rows["corrupted", 1.0]
    assert row["valid"] == row["unchanged"] <= row["possible"] < 0.3


def test_noise_scores_nothing_and_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rows = measured(monkeypatch, lambda n, prefix, temperature: draw.integers(1, 4, 1000))
    assert all(row["valid"] == 0 and row["unfinished"] == 1 for row in rows.values())


def test_what_follows_is_judged_behind_the_true_prefix() -> None:
    """Right behind the true prefix and behind that alone, whatever the model read."""
    given = take_prefixes(TRUTH, 20)
    rests = [rest(n, given[n]) for n in range(len(given))]
    faulty = corrupt_tokens(given, 3, 0.15, np.random.default_rng(0))
    assert grade_completions(GRAMMAR, given, rests, VOCAB.eos).all()
    as_read, hit = grade_completions(GRAMMAR, faulty, rests, VOCAB.eos), (faulty != given).any(1)
    assert as_read[~hit].all() and as_read.mean() < 0.3


def test_corruption_is_as_strong_as_asked() -> None:
    given = take_prefixes(TRUTH, 20)
    faulty = corrupt_tokens(given, 3, 0.15, np.random.default_rng(0))
    assert (faulty[:, 0] == VOCAB.bos).all() and set(np.unique(faulty[:, 1:])) == {1, 2, 3}
    changed = int((faulty != given).sum())
    assert binomtest(changed, given[:, 1:].size, 0.1).pvalue > 1e-4
    assert np.array_equal(corrupt_tokens(given, 3, 0.0, np.random.default_rng(0)), given)


def test_possible_prefixes() -> None:
    given = take_prefixes(TRUTH, 20)
    assert begins_sentence(GRAMMAR, given).all() and begins_sentence(GRAMMAR, take_prefixes(TRUTH, 0)).all()
    wrong = given.copy()
    wrong[:, 1:4] = 1  # no sentence begins 1 1 1
    assert not begins_sentence(GRAMMAR, wrong).any()


def test_all_trainings_are_asked_after_the_same_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for task in (PLAIN, TASK, get_task("cfg3b-terminal", root="16", share=0.3)):
        read = []
        measured(monkeypatch, lambda n, prefix, temperature, read=read: read.append(prefix) or rest(n, prefix), task)
        seen.append(np.concatenate(read))
    assert np.array_equal(seen[0], seen[1]) and np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize("settings", [{"samples": 1}, {"cut": 0}, {"temperatures": (0.0,)}, {"corruption": 2.0}])
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(UserError, match="needs 2|from 0 to 1"):
        Robustness(**settings)


def test_a_task_that_cannot_be_asked() -> None:
    model = Decoder(ModelConfig(1, 1, 8, max_seq_len=80), VOCAB.size)
    with pytest.raises(UserError, match="smaller cut"):
        Robustness(4, 30).measure(model, TASK, 0, 0)
    with pytest.raises(UserError, match="bioD is none"):
        Robustness(4, 5).measure(model, get_task("bioD"), 0, 0)
