"""The copy task: what stands in a document, faults, floors, and that all orders are equally likely."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, UserError, get_task
from synth.identity import digest
from synth.random.rng import rng
from synth.tasks.copy import CopyTask


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32))
def test_copies_are_accepted_and_faults_are_not(length: int, seed: int) -> None:
    task, draw = CopyTask(length), rng("faults", seed)
    vocab = task.vocab().names
    block = task.sample_block(None, draw, "test", 50)
    for number, document in enumerate(block.documents):
        example = block[number]
        names = [vocab[token] for token in document]
        first = names[1 : length + 1]
        assert names == ["<bos>", *first, "query", *first] and sorted(map(int, first)) == list(range(1, length + 1))
        right = document[length + 2 :]
        assert task.is_correct(document) and task.score(None, example, right) == {"correct": 1.0}
        wrong = right.copy()
        at = draw.integers(length)
        wrong[at] = (wrong[at] + 1 + draw.integers(length + 3)) % (length + 4)
        faults = [wrong, right[:-1], np.delete(right, at), right[:0]]
        if length > 1:
            faults += [np.roll(right, 1), right[::-1]]
        for fault in faults:
            assert task.score(None, example, fault) == {"correct": 0.0}
            assert not task.is_correct(np.concatenate([example.prompt, fault]))
        twice = document.copy()
        twice[[1, length + 2]] = twice[[length, -1]] if length > 1 else length + 1
        assert not task.is_correct(twice)


def test_masks_labels_and_the_paper_s_size() -> None:
    task = get_task("copy-500")
    block = Corpus(task, 0).documents(0, 20, labels=True)
    assert (block.lengths == 1002).all() and (block.prompt_lengths == 502).all()
    example = block[3]
    assert example.loss_mask.sum() == 500 and example.loss_mask[502:].all()
    assert ((example.labels["answer"] == 0) == example.loss_mask).all()
    assert (example.labels["difficulty"][502:] == 500).all() and example.slices["length"] == 500
    assert task.hardest() == task


def test_all_orders_are_equally_likely() -> None:
    task = CopyTask(4)
    found = [tuple(document[1:5].tolist()) for document in task.sample_block(None, rng(1), "train", 24_000).documents]
    counts = np.array([found.count(order) for order in permutations(range(1, 5))])
    assert counts.sum() == 24_000 and ((counts - 1000) ** 2 / 1000).sum() < 49.7  # chi-square, 23 degrees, p = 0.001
    assert task.floors(None)["correct"] == pytest.approx(1 / 24)


def test_golden() -> None:
    found = [digest(Corpus(task, 3).documents(0, 300).tokens.tolist(), 8) for task in (CopyTask(9), CopyTask())]
    assert found == ["2402d6a806eb1e65", "158a049d09d4818e"]


@pytest.mark.parametrize("length", [0, 2**15])
def test_bad_fields(length: int) -> None:
    with pytest.raises(UserError, match=f"copy: length={length} must be between 1"):
        CopyTask(length)
