"""Training rows from several tasks with one vocabulary: the mixed training of Part 3.1 (arXiv 2309.14316, section 2.3).

Every window holds documents of one task only, and each task has a fixed share of the windows and so of the tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from synth.corpus import Batch, Corpus, Cursor, Packing
from synth.errors import UserError
from synth.identity import canonical
from synth.task import Task, TrainingData
from synth.vocab import Vocab


@dataclass(frozen=True)
class Mixture(TrainingData):
    """Tasks with one vocabulary (parts) and the share of the training rows that each has.

    `make_corpus` reads it; documents, scores and floors are those of the parts. Items are numbered part after part.
    Raises UserError unless there is one positive share for each part and they add up to 1.
    """

    parts: tuple[Task, ...]
    shares: tuple[float, ...]

    name: ClassVar[str] = "mixture"
    source: ClassVar[str] = "Part 3.1 (arXiv 2309.14316), section 2.3"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "shares", tuple(self.shares))
        if any(isinstance(part, Mixture) for part in self.parts):
            raise UserError("mixture: a part is a mixture itself; list its parts with their shares of the whole")
        if not self.parts or len(self.parts) != len(self.shares):
            raise UserError(f"mixture: {len(self.parts)} parts have {len(self.shares)} shares; give one share a part")
        if not (min(self.shares) > 0 and abs(sum(self.shares) - 1) <= 1e-9):  # NaN is neither
            raise UserError(f"mixture: shares={self.shares} must be above 0 and add up to 1")

    def contents(self) -> dict[str, Any]:
        """The parts with their versions, for the hash of the mixture."""
        return {"parts": [{**canonical(part), "version": part.version} for part in self.parts]}

    def vocab(self) -> Vocab:
        """The vocabulary of the parts. Raises UserError when they differ."""
        return self._vocab

    @cached_property
    def _vocab(self) -> Vocab:
        return shared_vocab(self.parts)

    def world(self, seed: int) -> tuple[Any, ...]:
        """The worlds of the parts."""
        return tuple(part.world(seed) for part in self.parts)

    def num_items(self, world: tuple[Any, ...]) -> int | None:
        counts = [part.num_items(own) for part, own in zip(self.parts, world, strict=True)]
        return None if None in counts else sum(count or 0 for count in counts)


def shared_vocab(tasks: Iterable[TrainingData]) -> Vocab:
    """The common vocabulary of one or more tasks. Raises UserError that names two of them if they differ."""
    first, *others = tasks
    vocab = first.vocab()
    for other in others:
        if (own := other.vocab()) != vocab:
            raise UserError(
                f"{first.name} has a vocabulary of {vocab.size} ids and {other.name} another of {own.size}; "
                "give both the same lists, templates, questions and codec"
            )
    return vocab


def parts_of(data: TrainingData) -> tuple[Task, ...]:
    """The parts of a mixture, or a 1-tuple of a task."""
    if isinstance(data, Mixture):
        return data.parts
    assert isinstance(data, Task)
    return (data,)


def main_part(data: TrainingData) -> Task:
    """The task that stands for training data in tables: the first part of a mixture, or the task itself."""
    return parts_of(data)[0]


def cumulative_rows(shares: tuple[float, ...], row: np.ndarray) -> np.ndarray:
    """How many of the first `row` (n,) rows belong to each of P parts, (n, P) int64.

    Counts never decrease with `row` and add up to it; they differ from row * share by at most 1/2 for two parts and by
    less than 1 for three. The first part takes its rounded share and the others divide the remainder in the same way.
    """
    rest, total, counts = np.asarray(row, np.int64), 1.0, []
    for share in shares[:-1]:
        counts.append(np.floor(rest * min(share / total, 1.0) + 0.5).astype(np.int64))
        rest, total = rest - counts[-1], total - share
    return np.stack([*counts, rest], axis=-1)


class MixedCorpus:
    """The windows of a mixture; arguments as in Corpus.

    Row r belongs to the part whose `cumulative_rows` rises at r, and each part continues where its last row ended, so
    rows do not depend on the batch size.
    """

    def __init__(self, task: Mixture, seed: int, split: str, seq_len: int, packing: Packing, order_seed: int) -> None:
        self.task, self.seed, self.split, self.seq_len, self.packing, self.order_seed = (
            task, seed, split, seq_len, packing, order_seed,
        )  # fmt: skip
        self.vocab = task.vocab()
        self.parts = [Corpus(part, seed, split, seq_len, packing, order_seed) for part in task.parts]
        counts = [part.num_items for part in self.parts]
        self.num_items = None if None in counts else sum(count or 0 for count in counts)
        self._item_offsets = np.cumsum([0, *(count or 0 for count in counts)])

    def start(self) -> Cursor:
        """The cursor of the first row."""
        return Cursor(parts=tuple(part.start() for part in self.parts))

    def batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        """The next `rows` windows and the cursor after them."""
        before = cumulative_rows(self.task.shares, cursor.document + np.arange(rows + 1))
        owner = np.diff(before, axis=0).argmax(axis=1)
        batches, after = [], list(cursor.parts)
        for number in np.unique(owner).tolist():
            batch, after[number] = self.parts[number].batch(cursor.parts[number], int((owner == number).sum()))
            batches.append((number, batch))
        place = np.argsort(np.argsort(owner, kind="stable"))  # position of each row after sorting by part

        def rows_of(name: str) -> np.ndarray:
            return np.concatenate([getattr(batch, name) for _, batch in batches])[place]

        items = [batch.item_ids + (self._item_offsets[number] if self.num_items else 0) for number, batch in batches]
        mixed = Batch(
            rows_of("inputs"),
            rows_of("targets"),
            rows_of("loss_mask"),
            rows_of("documents"),
            np.concatenate(items) if self.num_items else np.zeros(0, np.int64),
        )
        return mixed, Cursor(cursor.document + rows, 0, tuple(after))


AnyCorpus = Corpus | MixedCorpus


def make_corpus(
    data: TrainingData,
    seed: int,
    split: str = "train",
    seq_len: int = 512,
    packing: Packing = "cut",
    order_seed: int = 0,
) -> AnyCorpus:
    """The Corpus of a task, or the MixedCorpus of a mixture; arguments and errors as in Corpus."""
    kind = MixedCorpus if isinstance(data, Mixture) else Corpus
    return kind(data, seed, split, seq_len, packing, order_seed)  # type: ignore[arg-type]
