"""What every task must keep: run over all registered tasks and presets, or over yours with --task file.py:Class."""

import pickle

import numpy as np
import pytest

from synth import Corpus, Task
from synth.random.rng import rng

N = 40


@pytest.fixture
def corpus(any_task: Task) -> Corpus:
    return Corpus(any_task, seed=3)


def same(a, b) -> bool:
    return (
        np.array_equal(a.tokens, b.tokens)
        and np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.loss_mask, b.loss_mask)
        and all(np.array_equal(a.labels[k], b.labels[k]) for k in a.labels.keys() | b.labels.keys())
    )


def test_identity(any_task: Task) -> None:
    assert any_task.name and any_task.source and any_task.version >= 1
    again = pickle.loads(pickle.dumps(any_task))
    assert again == any_task and again.key == any_task.key


def test_documents_are_well_formed(corpus: Corpus) -> None:
    block = corpus.documents(0, N, labels=True)
    assert len(block) == N and block.tokens.dtype == np.int32
    assert len(block.tokens) == len(block.loss_mask) == block.offsets[-1]
    corpus.vocab.check(block.tokens)
    assert corpus.vocab.pad not in block.tokens
    for i in range(N):
        example = block[i]
        assert 1 <= example.prompt_length < len(example.tokens)
        assert example.loss_mask.any(), "a document that trains nothing"
        assert all(len(values) == len(example.tokens) for values in example.labels.values())


def test_documents_do_not_depend_on_how_they_are_asked_for(any_task: Task, corpus: Corpus) -> None:
    whole = corpus.documents(0, 300, labels=True)
    late = Corpus(any_task, seed=3).documents(250, 300, labels=True)
    for i in range(50):
        assert np.array_equal(whole[250 + i].tokens, late[i].tokens)
    assert same(whole, Corpus(any_task, seed=3).documents(0, 300, labels=True))
    assert np.array_equal(whole.tokens, Corpus(any_task, seed=3).documents(0, 300).tokens), "labels changed the bytes"


def test_a_block_begins_with_the_smaller_block(any_task: Task, corpus: Corpus) -> None:
    if corpus.num_items is not None:
        pytest.skip("documents of fixed items are rendered one by one")
    small = any_task.sample_block(corpus.world, rng(1), "train", 7, labels=True)
    large = any_task.sample_block(corpus.world, rng(1), "train", 20, labels=True)
    assert all(np.array_equal(small[i].tokens, large[i].tokens) for i in range(7))


def test_seeds_and_splits_give_other_documents(any_task: Task, corpus: Corpus) -> None:
    first = corpus.documents(0, N).tokens
    for other in (Corpus(any_task, seed=4), Corpus(any_task, seed=3, split="test")):
        assert not np.array_equal(first, other.documents(0, N).tokens)


def test_the_true_completion_scores_best(any_task: Task) -> None:
    corpus = Corpus(any_task, seed=3, split="test")  # training documents may hold faults on purpose
    block = corpus.documents(0, N)
    for i in range(N):
        example = block[i]
        scores = any_task.score(corpus.world, example, example.tokens[example.prompt_length :])
        assert scores and all(value == 1 for value in scores.values()), scores


def test_noise_scores_near_the_floor(any_task: Task, corpus: Corpus) -> None:
    noise, floors = rng("noise"), any_task.floors(corpus.world)
    block, totals = corpus.documents(0, N), {}
    for i in range(N):
        example = block[i]
        guess = noise.integers(1, corpus.vocab.eos, len(example.tokens) - example.prompt_length)
        for name, value in any_task.score(corpus.world, example, guess).items():
            totals.setdefault(name, []).append(value)
    for name, values in totals.items():
        assert name in floors, f"floors() must say what guessing scores on {name!r}"
        assert np.mean(values) <= floors[name] + 3 * 0.5 / np.sqrt(N)


@pytest.mark.parametrize("packing", ["cut", "whole", "none"])
def test_windows_do_not_depend_on_the_batch_size(any_task: Task, corpus: Corpus, packing: str) -> None:
    window = int(corpus.documents(0, 256).lengths.max() * 2)
    one = Corpus(any_task, seed=3, seq_len=window, packing=packing)
    big, end = one.batch(one.start(), 6)
    cursor, rows, items = one.start(), [], []
    for _ in range(3):
        part, cursor = one.batch(cursor, 2)
        rows.append(part.inputs)
        items.append(part.item_ids)
    assert np.array_equal(big.inputs, np.concatenate(rows)) and cursor == end
    assert np.array_equal(big.item_ids, np.concatenate(items))
    assert np.array_equal(big.inputs[:, 1:][big.loss_mask[:, :-1]], big.targets[:, :-1][big.loss_mask[:, :-1]])
