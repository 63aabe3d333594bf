"""The contract of tasks about people, and samplers whose larger worlds extend smaller ones."""

from abc import abstractmethod
from math import prod
from typing import Any

import numpy as np

from synth.bio.facts import InformationContent
from synth.errors import UserError
from synth.random.rng import rng
from synth.task import Block, Example, Task

NAME_PART, VALUE_PART = 1, 2  # values of the label "part"; 0 is other text
CHUNK_SIZE = 1 << 12
MAX_PERMUTATION = 1 << 22  # up to this many rows, a whole permutation is drawn


def sample_distinct_rows(keys: tuple[Any, ...], bounds: tuple[int, ...], n: int) -> np.ndarray:
    """n distinct rows (n, len(bounds)) int64, column j below bounds[j], drawn uniformly without replacement.

    A larger n begins with the rows of a smaller one; n must not exceed the product of bounds.
    """
    total = prod(bounds)
    if total <= MAX_PERMUTATION:
        numbers = rng(*keys).permutation(total)[:n]
        return np.stack(np.unravel_index(numbers, bounds), axis=1).astype(np.int64)
    chunks = -(-n // CHUNK_SIZE)
    while True:
        draws = [rng(*keys, chunk).integers(0, bounds, (CHUNK_SIZE, len(bounds))) for chunk in range(chunks)]
        rows = _first_of_each(np.concatenate(draws), bounds)
        if len(rows) >= n:
            return rows[:n]
        chunks += 1 + chunks // 8


def _first_of_each(rows: np.ndarray, bounds: tuple[int, ...]) -> np.ndarray:
    """The rows without repetitions of earlier ones."""
    small = prod(bounds) < 1 << 62
    numbers = np.ravel_multi_index(tuple(rows.T), bounds) if small else rows
    _, first = np.unique(numbers, axis=None if small else 0, return_index=True)
    return rows[np.sort(first)]


def sample_rows(keys: tuple[Any, ...], bounds: tuple[int, ...], n: int) -> np.ndarray:
    """n rows (n, len(bounds)) int64, column j uniform below bounds[j]; a larger n begins with the same rows."""
    return np.stack([rng(*keys, j).integers(0, bound, n) for j, bound in enumerate(bounds)], axis=1)


def check_enough_names(people: int, names: int) -> None:
    """Raise UserError unless `people` distinct names can be drawn from `names`."""
    if people < 1:
        raise UserError(f"people={people} leaves nobody; give at least 1")
    if people > names:
        raise UserError(f"people={people} is more than the {names} names there are; enlarge the name pools")


class PeopleTask(Task):
    """A task whose items are people. Labels of every token of a document:

    part (N,) int8: NAME_PART in the first mention of the name, VALUE_PART in a value, else 0; attribute (N,) int8:
    index into `attributes` in a value, else -1. Losses summed over a part and averaged over people are p1, p2 (and p3)
    of Part 3.3.
    """

    @property
    @abstractmethod
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, by value of the label."""

    @abstractmethod
    def information_content(self, world: Any) -> InformationContent:
        """The bits of information in the people."""

    @abstractmethod
    def sample_wording(self, stream: tuple[Any, ...], epochs: np.ndarray, people: np.ndarray) -> Any:
        """Random wording of documents about people (n,) in epochs (n,): all choices except the facts."""

    @abstractmethod
    def write_documents(self, world: Any, people: np.ndarray, wording: Any, labels: bool) -> Block:
        """Documents about people (n,) of the world in this wording."""

    def render_block(
        self, world: Any, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Documents about people items (n,)."""
        return self.write_documents(world, items, self.sample_wording(stream, epochs, items), labels)

    def render(self, world: Any, item: int, rng: np.random.Generator, split: str) -> Example:
        """A document about `item`, its wording drawn with `rng`."""
        stream = ("render", int(rng.integers(2**62)))
        return self.render_block(world, np.array([item]), np.zeros(1, np.int64), stream, split, labels=True)[0]

    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        """A document about a person drawn at random."""
        return self.render(world, int(rng.integers(self.num_items(world) or 1)), rng, split)
