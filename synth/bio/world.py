"""What the worlds of people share: distinct draws that larger worlds extend, and the labels of a document."""

from abc import abstractmethod
from math import prod
from typing import Any

import numpy as np

from synth.bio.facts import Facts
from synth.errors import UserError
from synth.random.rng import rng
from synth.task import Block, Example, Task

NAME, VALUE = 1, 2  # what the label "part" says of a token; 0 is anything else
CHUNK = 1 << 12
SHUFFLED = 1 << 22  # up to here a whole permutation is drawn


def distinct(keys: tuple[Any, ...], bounds: tuple[int, ...], n: int) -> np.ndarray:
    """n distinct rows (n, len(bounds)) int64, column j below bounds[j], uniform without replacement.

    A smaller n gives the first rows of a larger one. The caller checks that there are n such rows.
    """
    total = prod(bounds)
    if total <= SHUFFLED:
        numbers = rng(*keys).permutation(total)[:n]
        return np.stack(np.unravel_index(numbers, bounds), axis=1).astype(np.int64)
    chunks = -(-n // CHUNK)
    while True:
        drawn = [rng(*keys, chunk).integers(0, bounds, (CHUNK, len(bounds))) for chunk in range(chunks)]
        rows = _first_of_each(np.concatenate(drawn), bounds)
        if len(rows) >= n:
            return rows[:n]
        chunks += 1 + chunks // 8


def _first_of_each(rows: np.ndarray, bounds: tuple[int, ...]) -> np.ndarray:
    """The rows without those that repeat an earlier row."""
    small = prod(bounds) < 1 << 62
    numbers = np.ravel_multi_index(tuple(rows.T), bounds) if small else rows
    _, first = np.unique(numbers, axis=None if small else 0, return_index=True)
    return rows[np.sort(first)]


def choices(keys: tuple[Any, ...], bounds: tuple[int, ...], n: int) -> np.ndarray:
    """n rows (n, len(bounds)) int64, column j uniform below bounds[j]; a larger n begins with a smaller one."""
    return np.stack([rng(*keys, j).integers(0, bound, n) for j, bound in enumerate(bounds)], axis=1)


def check_names(people: int, names: int) -> None:
    """Raise UserError unless `people` distinct names can be drawn from `names`."""
    if people < 1:
        raise UserError(f"people={people} leaves nobody; give at least 1")
    if people > names:
        raise UserError(f"people={people} is more than the {names} names there are; enlarge the name pools")


class PeopleTask(Task):
    """A task whose items are people. A document's labels are, for each token,

    part (N,) int8: NAME where the person is named for the first time, VALUE inside a value, 0 elsewhere;
    attribute (N,) int8: which of `attributes` the value is of, -1 outside values.
    A task may have more. Losses summed over the tokens of a part, averaged over people, are the p1, p2 (and p3) of
    Part 3.3.
    """

    @property
    @abstractmethod
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, in the order of the label's numbers."""

    @abstractmethod
    def facts(self, world: Any) -> Facts:
        """What the people hold, in bits."""

    @abstractmethod
    def wording(self, stream: tuple[Any, ...], epochs: np.ndarray, people: np.ndarray) -> Any:
        """How documents about people (n,) in epochs (n,) are worded: all of a document but who the people are."""

    @abstractmethod
    def write(self, world: Any, people: np.ndarray, wording: Any, labels: bool) -> Block:
        """The documents about people (n,) of the world in that wording."""

    def render_block(
        self, world: Any, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Documents about people items (n,), end to end."""
        return self.write(world, items, self.wording(stream, epochs, items), labels)

    def render(self, world: Any, item: int, rng: np.random.Generator, split: str) -> Example:
        """A document about `item`, its wording drawn with `rng`."""
        stream = ("render", int(rng.integers(2**62)))
        return self.render_block(world, np.array([item]), np.zeros(1, np.int64), stream, split, labels=True)[0]

    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        """A document about a person drawn at random."""
        return self.render(world, int(rng.integers(self.items(world) or 1)), rng, split)
