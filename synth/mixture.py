"""Training rows from several tasks: biographies and questions about them, celebrities and others.

The mixed training of Part 3.1 (arXiv 2309.14316, section 2.3): every window is all biographies or all questions, and
a fixed share of the windows, so of the tokens, is questions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from synth.corpus import Batch, Corpus, Cursor, Packing
from synth.errors import UserError
from synth.identity import canonical
from synth.task import Example, Task
from synth.tasks.bios import BioS
from synth.vocab import Vocab


@dataclass(frozen=True)
class Mixture(Task):
    """parts: tasks with one vocabulary; shares: which part of the rows each has, kept over every stretch of rows.

    It is a stream to train on, read by `corpus_of`: what concerns documents (scores, samples) is asked of its parts.
    Its fixed items are those of its parts, one part after another. Where one task must stand for it, as for exposures
    in a table, that is the first part.

    Raises UserError for shares that are not positive, do not add up to 1, or are not one for each part.
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
        """The parts with their versions, for the identity of the mixture."""
        return {"parts": [{**canonical(part), "version": part.version} for part in self.parts]}

    def vocab(self) -> Vocab:
        """The vocabulary of every part. Raises UserError when they differ."""
        return self._vocab

    @cached_property
    def _vocab(self) -> Vocab:
        return one_vocab(self.parts)

    def world(self, seed: int) -> tuple[Any, ...]:
        """The worlds of the parts."""
        return tuple(part.world(seed) for part in self.parts)

    def items(self, world: tuple[Any, ...]) -> int | None:
        counts = [part.items(own) for part, own in zip(self.parts, world, strict=True)]
        return None if None in counts else sum(count or 0 for count in counts)

    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        raise _no_documents()

    def render(self, world: Any, item: int, rng: np.random.Generator, split: str) -> Example:
        raise _no_documents()

    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        raise _no_documents()

    def floors(self, world: Any) -> dict[str, float]:
        raise _no_documents()


def _no_documents() -> UserError:
    return UserError("a mixture is a stream of rows to train on; ask one of its parts for documents, scores and floors")


def one_vocab(tasks: Iterable[Task]) -> Vocab:
    """The vocabulary that tasks (at least one) share. Raises UserError, naming two of them, when they do not."""
    first, *others = tasks
    vocab = first.vocab()
    for other in others:
        found = other.vocab()
        if found != vocab:
            raise UserError(
                f"{first.name} has a vocabulary of {vocab.size} ids and {other.name} another of {found.size}; "
                "give both the same lists, templates, questions and codec"
            )
    return vocab


def parts_of(task: Task) -> tuple[Task, ...]:
    """The parts of a mixture; any other task alone."""
    return task.parts if isinstance(task, Mixture) else (task,)


def main_part(task: Task) -> Task:
    """The first part of a mixture; any other task itself."""
    return parts_of(task)[0]


def people_of(task: Task) -> BioS:
    """The biographies behind a task: itself, the first biographies among the parts of a mixture, or, where there are
    only questions, the biographies of everybody with the fields of the questions.

    Raises UserError for a task that is not about the people of bioS.
    """
    about = [part for part in parts_of(task) if isinstance(part, BioS)]
    for part in about:
        if type(part) is BioS:
            return part
    if not about:
        raise UserError(f"{task.name} is not about the people of bioS; use bioS, questions about it, or a mixture")
    return about[0].recast(BioS, half="all")


def rows_before(shares: tuple[float, ...], row: np.ndarray) -> np.ndarray:
    """How many of the first `row` (n,) rows each part has, (n, P): a pure function of the row number that never goes
    down, adds up to `row` and differs from row * share by at most 1/2 for two parts, below 1 for three.

    The first part takes its rounded share, the others share what is left in the same way.
    """
    left, total, counts = np.asarray(row, np.int64), 1.0, []
    for share in shares[:-1]:
        counts.append(np.floor(left * min(share / total, 1.0) + 0.5).astype(np.int64))
        left, total = left - counts[-1], total - share
    return np.stack([*counts, left], axis=-1)


class MixedCorpus:
    """The rows of a mixture: row number r belongs to the part whose `rows_before` rises there, and each part goes on
    where its last row ended. So the rows do not depend on the size of batches. Settings as in Corpus."""

    def __init__(self, task: Mixture, seed: int, split: str, window: int, packing: Packing, order: int) -> None:
        self.task, self.seed, self.split, self.window, self.packing, self.order = (
            task, seed, split, window, packing, order,
        )  # fmt: skip
        self.vocab = task.vocab()
        self.parts = [Corpus(part, seed, split, window, packing, order) for part in task.parts]
        counts = [part.items for part in self.parts]
        self.items = None if None in counts else sum(count or 0 for count in counts)
        self._firsts = np.cumsum([0, *(count or 0 for count in counts)])

    def start(self) -> Cursor:
        """The cursor of the first row: its document is the number of the row, its parts are those of the parts."""
        return Cursor(parts=tuple(part.start() for part in self.parts))

    def batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        """The next `rows` windows, and the cursor after them."""
        before = rows_before(self.task.shares, cursor.document + np.arange(rows + 1))
        owner = np.diff(before, axis=0).argmax(axis=1)
        drawn, after = [], list(cursor.parts)
        for number in np.unique(owner).tolist():
            batch, after[number] = self.parts[number].batch(cursor.parts[number], int((owner == number).sum()))
            drawn.append((number, batch))
        place = np.argsort(np.argsort(owner, kind="stable"))  # where each row stands among those sorted by part

        def rows_of(name: str) -> np.ndarray:
            return np.concatenate([getattr(batch, name) for _, batch in drawn])[place]

        items = [batch.items + (self._firsts[number] if self.items else 0) for number, batch in drawn]
        mixed = Batch(
            rows_of("inputs"),
            rows_of("targets"),
            rows_of("loss_mask"),
            rows_of("documents"),
            np.concatenate(items) if self.items else np.zeros(0, np.int64),
        )
        return mixed, Cursor(cursor.document + rows, 0, tuple(after))


Stream = Corpus | MixedCorpus


def corpus_of(
    task: Task, seed: int, split: str = "train", window: int = 512, packing: Packing = "cut", order: int = 0
) -> Stream:
    """What a model trains on: the Corpus of a task, or the MixedCorpus of a mixture. Settings and errors as Corpus."""
    kind = MixedCorpus if isinstance(task, Mixture) else Corpus
    return kind(task, seed, split, window, packing, order)  # type: ignore[arg-type]
