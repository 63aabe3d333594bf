"""Associative recall: what documents say, chance by measurement, and the verifier against planted answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError, get_task
from synth.identity import digest
from synth.random.rng import rng
from synth.random.size_distribution import size_probabilities
from synth.tasks.recall import Recall

TASK = Recall()
N = 4000


def test_documents_say_what_they_should() -> None:
    block, vocab = TASK.sample_block(None, rng("documents"), "train", 200, labels=True), TASK.vocab()
    for i in range(len(block)):
        example = block[i]
        names, pairs = vocab.decode(example.tokens), example.slices["pairs"]
        told = dict(zip(names[1 : 1 + 2 * pairs : 2], names[2 : 2 + 2 * pairs : 2], strict=True))
        asked = dict(zip(names[1 + 2 * pairs :: 2], names[2 + 2 * pairs :: 2], strict=True))
        assert len(told) == pairs and len(asked) == 4 and asked.items() <= told.items()
        assert all(key[0] == "k" for key in told) and all(value[0] == "v" for value in told.values())
        answers = np.arange(2 + 2 * pairs, len(names), 2)
        assert np.array_equal(np.flatnonzero(example.loss_mask), answers)
        assert example.labels["answer"][answers].tolist() == [0, 1, 2, 3] and example.prompt_length == len(names) - 1
        assert (example.labels["difficulty"][answers] == pairs).all()
        for label in example.labels.values():
            assert label.dtype == np.int16 and (label >= 0).sum() == 4


def test_sizes_places_and_values_are_drawn_as_said() -> None:
    task = Recall(pairs=10, least=2, keys=12, values=5, queries=3)
    key, value, asked, size = task._sample_arrays(rng("drawn"), N)
    expected = size_probabilities(2, 10)
    assert expected[0] / expected[-1] == pytest.approx((10 + 10**0.5) / (2 + 10**0.5))
    shares = np.bincount(size, minlength=11)[2:] / N
    assert np.allclose(shares, expected, atol=4.5 * np.sqrt(0.25 / N))
    for column, kinds, first in ((key[:, 3], 12, 1), (value[:, 7], 5, 13)):
        seen = np.bincount(column - first, minlength=kinds) / N
        assert len(seen) == kinds and np.allclose(seen, 1 / kinds, atol=4.5 * np.sqrt(1 / kinds / N))
    whole = asked[size == 10]
    for question in range(3):
        assert np.allclose(np.bincount(whole[:, question], minlength=10) / len(whole), 0.1, atol=0.06)


def test_floors_are_what_guesses_reach() -> None:
    for task in (TASK, Recall(pairs=5, least=1, values=4, queries=1)):
        key, value, asked, size = task._sample_arrays(rng("floors"), 20_000)
        truth = np.take_along_axis(value, asked[:, :1], axis=1)[:, 0]
        draw, floors = rng("guess"), task.floors(None)
        any_value = draw.integers(0, task.values, len(truth)) + task.keys + 1
        place = (draw.random(len(truth)) * size).astype(int)
        for name, guess in {"correct": any_value, "context": value[np.arange(len(truth)), place]}.items():
            assert (guess == truth).mean() == pytest.approx(floors[name], abs=4.5 * np.sqrt(0.25 / len(truth)))
        assert floors["loss"] == 0


# 50 times 200 documents: 10,000 generated answers, 40,000 others
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([TASK, Recall(pairs=3, least=1, keys=3, values=3, queries=9)]))
def test_only_the_value_is_accepted(seed: int, task: Recall) -> None:
    block, vocab, draw = task.sample_block(None, rng("property", seed), "test", 200), task.vocab(), rng("faults", seed)
    for i in range(len(block)):
        example = block[i]
        right = example.tokens[example.prompt_length :]
        for accepted in (right, np.append(right, vocab.eos)):
            assert task.score(None, example, accepted) == {"correct": 1.0}
            assert task.score(None, None, np.concatenate([example.prompt, accepted])) == {"correct": 1.0}
        other = draw.integers(0, vocab.size)
        wrong = [np.array([other]), right[:0], np.append(right, right), np.append(right, [vocab.eos] * 2)]
        for refused in wrong[int(other == right[0]) :]:
            assert task.score(None, example, refused) == {"correct": 0.0}


def test_what_is_no_prompt_asks_for_nothing() -> None:
    task = Recall(pairs=3, keys=3, values=3, least=1)

    def read(text: str) -> int | None:
        return task.parse(task.vocab().encode(text.split()))

    assert read("<bos> k1 v2 k3 v1 k1") == read("k1 v2 k3 v1 k1") == task.vocab().encode(["v2"])[0]
    for nothing in ("", "<bos>", "k1 v2 k3", "k1 v2 k3 v1", "v2 k1 k1", "k1 v2 k3 <eos> k1", "k1 v2 <bos> k1"):
        assert read(nothing) is None


def test_the_hardest_has_one_size_and_the_same_vocabulary() -> None:
    assert TASK.hardest().vocab() == TASK.vocab()
    assert set(Corpus(TASK.hardest(), 0).documents(0, 50).slices["pairs"]) == {TASK.pairs}


@pytest.mark.parametrize("fields", [{"least": 0}, {"pairs": 3}, {"keys": 8}, {"queries": 0}, {"values": 0}])
def test_bad_fields_are_refused_in_one_line(fields: dict) -> None:
    with pytest.raises(UserError, match=r"^recall: [^\n]+$"):
        Recall(**fields)


@pytest.mark.parametrize(
    ("fields", "golden"),
    [({}, "015fc2c25226c41a"), ({"pairs": 40, "least": 1, "queries": 64, "values": 7}, "fd6d6ebb5d1f71be")],
    ids=["default", "many"],
)
def test_golden_documents(fields: dict, golden: str) -> None:
    """The same seed gives the same bytes for ever."""
    assert digest(Corpus(get_task("recall", **fields), 3).documents(0, 300).tokens.tolist(), 8) == golden
