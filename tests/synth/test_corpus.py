"""The corpus: nothing lost at a cut, exposures counted exactly, packing and masks as stated."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import Corpus, Example, Task, UserError, Vocab
from synth.commands.summary import document_bytes
from synth.identity import digest
from synth.tasks.cfg import Cfg


@dataclass(frozen=True)
class People(Task):
    """Fixed items: person i is <bos> i i .. i <eos>, i % 4 + 1 times; the wording (length) never changes."""

    n: int = 10

    name: ClassVar[str] = "people"
    source: ClassVar[str] = "tests"

    def vocab(self) -> Vocab:
        return Vocab(tuple(f"p{i}" for i in range(self.n)))

    def num_items(self, world: None) -> int:
        return self.n

    def render(self, world, item, rng, split) -> Example:
        body = [item + 1] * (item % 4 + 1)
        tokens = np.array([0, *body, self.n + 1], np.int32)
        return Example(tokens, tokens > 0)

    def sample(self, world, rng, split) -> Example:
        raise AssertionError("never called for fixed items")

    def score(self, world, example, completion) -> dict[str, float]:
        return {"exact": float(np.array_equal(completion, example.tokens[1:]))}

    def floors(self, world) -> dict[str, float]:
        return {"exact": 1 / self.n}


@dataclass(frozen=True)
class Worded(People):
    """People with four random tokens before each document, so that the wording of an exposure shows."""

    def render(self, world, item, rng, split) -> Example:
        plain = super().render(world, item, rng, split)
        tokens = np.concatenate([plain.tokens[:1], rng.integers(1, self.n + 1, 4), plain.tokens[1:]]).astype(np.int32)
        return Example(tokens, tokens > 0)


def flat(corpus: Corpus, rows: int) -> np.ndarray:
    batch, _ = corpus.batch(corpus.start(), rows)
    return np.concatenate([batch.inputs[:, :1], batch.targets], axis=1)


@pytest.mark.parametrize("window", [1, 3, 7, 64])
def test_cut_windows_hold_the_whole_stream(window: int) -> None:
    corpus = Corpus(People(), 0, seq_len=window)
    batch, _ = corpus.batch(corpus.start(), 11)
    stream = corpus.documents(0, 600).tokens
    assert np.array_equal(batch.inputs.reshape(-1), stream[: 11 * window])
    assert np.array_equal(batch.targets.reshape(-1), stream[1 : 11 * window + 1])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_exposures_are_exact(n: int, window: int, cuts: list[int]) -> None:
    """An item is counted in the one batch that trains on the last token of its document."""
    corpus = Corpus(People(n), 0, seq_len=window, order_seed=5)
    cursor, counted, targets = corpus.start(), [], []
    for rows in cuts:
        batch, cursor = corpus.batch(cursor, rows)
        counted.extend(batch.item_ids.tolist())
        targets.extend(batch.targets.reshape(-1).tolist())
    stream = corpus.documents(0, len(targets) + 1).tokens
    ended = int((stream[1 : len(targets) + 1] == n + 1).sum())
    assert counted == corpus.item_ids(0, ended).tolist()


def test_an_epoch_shows_every_item_once_in_a_new_order() -> None:
    corpus = Corpus(People(30), 0)
    first, second = corpus.item_ids(0, 30), corpus.item_ids(30, 60)
    assert sorted(first) == sorted(second) == list(range(30)) and not np.array_equal(first, second)
    assert not np.array_equal(first, Corpus(People(30), 0, order_seed=1).item_ids(0, 30))


@pytest.mark.parametrize("packing", ["whole", "none"])
def test_rows_hold_whole_documents(packing: str) -> None:
    corpus = Corpus(People(), 0, seq_len=13, packing=packing)
    rows, pad = flat(corpus, 9), corpus.vocab.pad
    for row in rows:
        body = row[row != pad]
        assert body[0] == 0 and body[-1] == corpus.vocab.eos
        assert packing == "whole" or (body == 0).sum() == 1
    kept = np.concatenate([row[row != pad] for row in rows])
    assert np.array_equal(kept, corpus.documents(0, 400).tokens[: len(kept)])
    batch, cursor = corpus.batch(corpus.start(), 9)
    assert np.array_equal(batch.item_ids, corpus.item_ids(0, cursor.document))
    assert not batch.loss_mask[batch.targets == pad].any() and not batch.loss_mask[batch.targets == 0].any()


def naive_gated_delta_rule(corpus: Corpus, document: int, rows: int) -> tuple[list[np.ndarray], int]:
    """What a batch of whole documents is, in a plain loop: tokens, mask and owners (rows, window + 1), and the next."""
    width, row, used, count = corpus.seq_len + 1, 0, 0, 0
    tokens, owner = np.full((rows, width), corpus.vocab.pad), np.full((rows, width), -1)
    mask = np.zeros((rows, width), bool)
    while True:
        example = corpus.documents(document, document + 1)[0]
        length = len(example.tokens)
        if count and (corpus.packing == "none" or used + length > width):
            row, used, count = row + 1, 0, 0
            if row == rows:
                break
        span = slice(used, used + length)
        tokens[row, span], mask[row, span], owner[row, span] = example.tokens, example.loss_mask, count
        used, count, document = used + length, count + 1, document + 1
    owner[owner < 0] = 1 + owner.max()
    return [tokens, mask, owner], document


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["whole", "none"]), st.integers(5, 30), st.lists(st.integers(1, 90), min_size=1, max_size=4))
def test_whole_batches_are_those_of_a_plain_loop(packing: str, window: int, cuts: list[int]) -> None:
    corpus = Corpus(People(11), 0, seq_len=window, packing=packing)
    cursor = corpus.start()
    for rows in [*cuts, 300]:  # the last one needs several blocks
        (tokens, mask, owner), document = naive_gated_delta_rule(corpus, cursor.document, rows)
        items = corpus.item_ids(cursor.document, document)
        batch, cursor = corpus.batch(cursor, rows)
        wanted = [tokens[:, :-1], tokens[:, 1:], mask[:, 1:], owner[:, :-1], items]
        found = [batch.inputs, batch.targets, batch.loss_mask, batch.documents, batch.item_ids]
        assert all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))
        assert [array.dtype.name for array in found] == ["int32", "int32", "bool", "int32", "int64"]
        assert (cursor.document, cursor.offset) == (document, 0) and type(cursor.document) is int


def test_documents_are_numbered_within_their_row() -> None:
    corpus = Corpus(People(), 0, seq_len=20)
    batch, _ = corpus.batch(corpus.start(), 4)
    starts = (batch.inputs == 0).astype(int)
    starts[:, 0] = 0
    assert np.array_equal(batch.documents, np.cumsum(starts, axis=1))


def test_a_document_that_does_not_fit_names_the_mend() -> None:
    corpus = Corpus(People(), 0, seq_len=3, packing="whole")
    with pytest.raises(UserError, match="window of at least"):
        corpus.batch(corpus.start(), 5)


@pytest.mark.parametrize(("field", "value"), [("packing", "tight"), ("seq_len", 0), ("split", "dev")])
def test_bad_settings(field: str, value: object) -> None:
    with pytest.raises(UserError):
        Corpus(People(), 0, **{field: value})


@pytest.mark.parametrize(
    ("task", "golden"), [(Cfg("cfg3b", "13"), "5e68b61e0b768d81"), (Worded(7), "ccc8352f21f64a13")]
)
def test_golden_documents(task: Task, golden: str) -> None:
    """The same seed gives the same bytes for ever, for fresh samples and for fixed items rendered one by one."""
    block = Corpus(task, 5, order_seed=2).documents(100, 600)
    assert digest([text.hex() for text in document_bytes(block)], 8) == golden


def test_a_document_is_the_same_in_any_block() -> None:
    task, stream = Worded(7), ("documents", "a stream")
    both = task.render_block(None, np.array([3, 5]), np.array([1, 0]), stream, "train")
    alone = task.render_block(None, np.array([5]), np.array([0]), stream, "train")
    later = task.render_block(None, np.array([5]), np.array([1]), stream, "train")
    assert np.array_equal(both[1].tokens, alone[0].tokens) and not np.array_equal(alone.tokens, later.tokens)
