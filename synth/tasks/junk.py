"""Useful people among junk people (Part 3.3, arXiv 2404.05405, results 10 to 12: junk costs useful capacity).

An epoch tells every useful person once, in whatever order the corpus takes, and `junk` times as many junk documents.
What a junk document says cannot be told from a useful one by its form: names, values and wording are of the same kind.
"""

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import log, prod
from typing import Any, ClassVar

import numpy as np

from synth.bio import PeopleTask
from synth.errors import UserError
from synth.random.rng import below, words
from synth.task import Block, Example
from synth.tasks import biod, bios
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS
from synth.vocab import Vocab

TOKEN = "<useful>"
MOST_NAMES = 1 << 48  # so that a 64-bit word modulo their number has a bias below 2**-16


@dataclass(frozen=True)
class WorldD(biod.World):
    """The useful people; crowd: they, then the pool; free (N,): how many free names lie below each useful one's."""

    crowd: biod.World
    free: np.ndarray


@dataclass(frozen=True)
class WorldS(bios.World):
    """As WorldD."""

    crowd: bios.World
    free: np.ndarray


@dataclass(frozen=True)
class Junk(PeopleTask):
    """junk: junk documents for each useful one (7 makes 7/8 of the data junk). junk_people: 0 for somebody new in every
    junk document, as the paper's bioS(100M), else a pool of so many people who take turns, its repetitive junk. token:
    a domain token follows <bos> in every useful document.

    Items 0..N-1 are the useful people; item N+j of epoch e is junk document number e N junk + j. Nobody in it has a
    useful person's name; a junk name may come again for somebody else. facts, attributes, floors and scores without an
    example are about the useful people.
    """

    junk: int = 7
    junk_people: int = 0
    token: bool = False

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.3 (arXiv 2404.05405), results 10 to 12"
    kind: ClassVar[type[BioD] | type[BioS]]
    metric: ClassVar[str]

    def __post_init__(self) -> None:
        free = self.names - self.useful.people
        if getattr(self.useful, "half", "all") != "all":
            raise UserError(f"{self.name}: half={self.useful.half!r} is for bioS; give fewer people instead")
        if self.junk < 1:
            raise UserError(f"{self.name}: junk={self.junk} leaves only useful people; take {self.kind.name} for that")
        if self.junk_people < 0:
            raise UserError(f"{self.name}: junk_people={self.junk_people} must be 0 (fresh people) or a pool's size")
        if free < max(self.junk_people, 1):
            raise UserError(f"{self.name}: people={self.useful.people} leave {free} names for junk; enlarge the pools")
        if self.names > MOST_NAMES:
            raise UserError(f"{self.name}: {self.names} names are more than 2^48; shorten the names")

    @cached_property
    def useful(self) -> Any:
        """The task of the useful people alone: the same fields but for the junk."""
        return self.kind(**{f.name: getattr(self, f.name) for f in fields(self.kind)})

    @property
    @abstractmethod
    def name_bounds(self) -> tuple[int, ...]:
        """How many symbols there are for each part of a name."""

    @property
    def names(self) -> int:
        """How many names there are: N0."""
        return prod(self.name_bounds)

    @abstractmethod
    def strangers(self, keys: tuple[Any, ...], numbers: np.ndarray) -> dict[str, np.ndarray]:
        """The values of the people of these numbers (n,), drawn with these keys: columns (n, ...) of a world."""

    @property
    def useful_items(self) -> int:
        """How many items, from the first on, are people whose facts count."""
        return self.useful.people

    def vocab(self) -> Vocab:
        vocab = self.useful.vocab()
        return Vocab((*vocab.symbols, TOKEN)) if self.token else vocab

    def world(self, seed: int) -> Any:
        useful = self.useful.world(seed)
        crowd = replace(self.useful, people=self.useful.people + self.junk_people).world(seed)
        taken = np.sort(np.ravel_multi_index(tuple(useful.names.T), self.name_bounds))
        kind = WorldD if self.kind is BioD else WorldS
        return kind(**vars(useful), crowd=crowd, free=taken - np.arange(len(taken)))

    def items(self, world: Any) -> int:
        return self.useful.people * (1 + self.junk)

    def render_block(
        self, world: Any, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Documents end to end. Slice `useful` is 1 or 0; `person` counts useful people, then the pool or the fresh."""
        people, epochs = self._people(items, epochs)
        wording = self.useful.wording(stream, epochs, people)
        if self.junk_people:
            block = self.useful.write(world.crowd, people, wording, labels)
        else:
            here = self._gathered(world, stream, people)
            block = self.useful.write(here, np.arange(len(people)), wording, labels)
        useful = items < self.useful_items
        block = replace(block, slices={"person": people, "useful": useful.astype(np.int64)})
        return self._announced(block, useful) if self.token else block

    def _people(self, items: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Who documents are about, and how often they were told before."""
        n = self.useful_items
        turns = epochs * n * self.junk + items - n
        seen, who = np.divmod(turns, self.junk_people) if self.junk_people else (0, turns)
        return np.where(items < n, items, n + who), np.where(items < n, epochs, seen)

    def _gathered(self, world: Any, stream: tuple[Any, ...], people: np.ndarray) -> Any:
        """A world of just these people (n,): useful ones, and fresh ones drawn by their numbers."""
        keys, useful = (*stream, "junk"), people < self.useful_items
        random = words((*keys, "names"), people, np.zeros_like(people), 1)[:, 0]
        numbers = unused(random, world.free, self.names)
        columns = {"names": np.stack(np.unravel_index(numbers, self.name_bounds), axis=1)}
        columns |= self.strangers((*keys, "values"), people)
        for name, column in columns.items():
            column[useful] = getattr(world, name)[people[useful]]
        return replace(world, **columns)

    def _announced(self, block: Block, useful: np.ndarray) -> Block:
        """The block with TOKEN after the <bos> of the useful documents. TOKEN has the id that <eos> had without it."""
        token = self.useful.vocab().eos
        at = block.offsets[:-1][useful] + 1
        return replace(
            block,
            tokens=np.insert(block.tokens + (block.tokens == token), at, token).astype(np.int32),
            offsets=block.offsets + np.concatenate([[0], np.cumsum(useful)]),
            loss_mask=np.insert(block.loss_mask, at, True),
            prompt_lengths=block.prompt_lengths + useful,
            labels={name: np.insert(row, at, 0 if name == "part" else -1) for name, row in block.labels.items()},
        )

    def _plain(self, document: np.ndarray) -> np.ndarray:
        """A document as the useful task writes it, without TOKEN."""
        token = self.useful.vocab().eos
        ids = document[document != token] if self.token else document
        return ids - (ids > token) if self.token else ids

    def read(self, world: Any, document: np.ndarray) -> tuple[int | None, dict[int, tuple[int, ...]]]:
        """What a document (T,) says: the useful person it names (None if nobody), and its values by attribute."""
        return self.useful.read(world, self._plain(document))

    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """As the useful task; of a junk example, the share of its values that the document tells."""
        document = completion if example is None else np.concatenate([example.prompt, completion])
        if example is None or example.slices["useful"]:
            return self.useful.score(world, None, self._plain(document))
        said, told = (self.read(world, text)[1] for text in (document, example.tokens))
        return {self.metric: float(np.mean([said.get(a) == value for a, value in told.items()]))}

    def floors(self, world: Any) -> dict[str, float]:
        """As the useful task, but loss: nats a token of the mixture, knowing the useful people and the pool."""
        nats, length = _cost(self.useful, world)
        share = 1 / (1 + self.junk)
        if self.junk_people:
            others = nats + log(self.junk_people / self.useful_items)
        else:
            values = sum(self.useful.facts(None).log2_values.values()) * log(2)
            others = _cost(self.unscripted, world)[0] + values + log(self.names / self.useful_items - 1)
        which = -share * log(share) - (1 - share) * log(1 - share)
        loss = (which + share * nats + (1 - share) * others) / (length + share * self.token)
        return {**self.useful.floors(world), "loss": loss}

    @property
    def unscripted(self) -> Any:
        """The useful task with a wording for everybody that nobody can know."""
        return self.useful


def unused(random: np.ndarray, free: np.ndarray, names: int) -> np.ndarray:
    """Numbers (n,) int64 below `names`, uniform over those not taken, from uint64 words; free (N,): see WorldD."""
    rank = (random % np.uint64(names - len(free))).astype(np.int64)
    return rank + np.searchsorted(free, rank, side="right")


def _cost(task: Any, world: Any) -> tuple[float, float]:
    """Nats and targets of a document at the floor of a task of people."""
    people = np.arange(min(task.people, 1000))
    block = task.render_block(world, people, np.zeros_like(people), ("floors",), "train")
    length = float(block.lengths.mean()) - 1
    return task.floors(world)["loss"] * length, length


@dataclass(frozen=True)
class JunkD(Junk, BioD):
    """The fields of BioD for the useful people, then those of Junk."""

    name: ClassVar[str] = "junkD"
    kind: ClassVar[type[BioD]] = BioD
    metric: ClassVar[str] = "value"
    presets = {"junkD-repeated": {"junk_people": 1000}, "junkD-token": {"token": True}}

    @property
    def name_bounds(self) -> tuple[int, ...]:
        return (self.name_alphabet,) * self.name_length

    def strangers(self, keys: tuple[Any, ...], numbers: np.ndarray) -> dict[str, np.ndarray]:
        random = words(keys, numbers, np.zeros_like(numbers), self.kinds * self.chunks)
        return {"values": below(random, self.set_size).reshape(-1, self.kinds, self.chunks)}


@dataclass(frozen=True)
class JunkS(Junk, BioS):
    """The fields of BioS for the useful people, then those of Junk."""

    name: ClassVar[str] = "junkS"
    kind: ClassVar[type[BioS]] = BioS
    metric: ClassVar[str] = "facts"
    presets = {"junkS-repeated": {"junk_people": 1000}, "junkS-token": {"token": True}}

    @property
    def name_bounds(self) -> tuple[int, ...]:
        return self.first, self.middle, self.last

    @property
    def unscripted(self) -> BioS:
        return replace(self.useful, wordings=0, codec="word")  # the spelling changes no nats

    def strangers(self, keys: tuple[Any, ...], numbers: np.ndarray) -> dict[str, np.ndarray]:
        sizes = np.array([*self.useful.lists.sizes, 2])
        drawn = below(words(keys, numbers, np.zeros_like(numbers), 6), sizes)
        return {"values": drawn[:, [0, 1, 2, 3, 4, 4]], "genders": drawn[:, 5]}
