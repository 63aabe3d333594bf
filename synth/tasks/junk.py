"""Useful people among junk people (Part 3.3, arXiv 2404.05405, results 10 to 12)."""

from abc import abstractmethod
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import log, prod
from typing import Any, ClassVar

import numpy as np

from synth.bio import PeopleTask
from synth.errors import UserError
from synth.random.rng import bounded_integers, random_uint64
from synth.task import Block, Example
from synth.tasks import biod, bios
from synth.tasks.biod import BioD
from synth.tasks.bios import BioS
from synth.vocab import Vocab

USEFUL_TOKEN = "<useful>"
MAX_NAMES = 1 << 48  # keeps the bias of a 64-bit word modulo their number below 2**-16


@dataclass(frozen=True)
class WorldD(biod.World):
    """The useful people; all_people: these and the pool; num_free_below (N,): unused names below each used one."""

    all_people: biod.World
    num_free_below: np.ndarray


@dataclass(frozen=True)
class WorldS(bios.World):
    """As WorldD."""

    all_people: bios.World
    num_free_below: np.ndarray


@dataclass(frozen=True)
class Junk(PeopleTask):
    """Useful people among junk people: documents of the same form about people nobody needs to know.

    Example (junkD, kinds=1, token=True): `<bos> <useful> s21 s7 s1 a0 s31 s3 <eos>` is useful, and
    `<bos> s28 s4 s30 a0 s22 s27 <eos>` is junk. Items 0..N-1 are the useful people; item N+j of epoch e is junk
    document number e N junk + j. No junk document has a useful person's name. Attributes, information content, floors
    and scores without an example are those of the useful people.
    Source: Part 3.3 (arXiv 2404.05405), results 10 to 12.
    """

    junk: int = 7
    """Junk documents per useful document (7: 7/8 of the data is junk)."""
    junk_people: int = 0
    """Size of the pool of junk people; 0: a new person in every junk document."""
    token: bool = False
    """A domain token follows <bos> in every useful document."""

    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.3 (arXiv 2404.05405), results 10 to 12"
    base_task: ClassVar[type[BioD] | type[BioS]]
    metric: ClassVar[str]

    def __post_init__(self) -> None:
        free = self.num_names - self.useful.people
        if getattr(self.useful, "half", "all") != "all":
            raise UserError(f"{self.name}: half={self.useful.half!r} is for bioS; give fewer people instead")
        if self.junk < 1:
            raise UserError(
                f"{self.name}: junk={self.junk} leaves only useful people; take {self.base_task.name} for that"
            )
        if self.junk_people < 0:
            raise UserError(f"{self.name}: junk_people={self.junk_people} must be 0 (fresh people) or a pool's size")
        if free < max(self.junk_people, 1):
            raise UserError(f"{self.name}: people={self.useful.people} leave {free} names for junk; enlarge the pools")
        if self.num_names > MAX_NAMES:
            raise UserError(f"{self.name}: {self.num_names} names are more than 2^48; shorten the names")

    @cached_property
    def useful(self) -> Any:
        """The task of the useful people alone, with the same fields."""
        return self.base_task(**{f.name: getattr(self, f.name) for f in fields(self.base_task)})

    @property
    @abstractmethod
    def name_bounds(self) -> tuple[int, ...]:
        """Number of choices for each part of a name."""

    @property
    def num_names(self) -> int:
        """Number of names, N0."""
        return prod(self.name_bounds)

    @abstractmethod
    def sample_junk_values(self, keys: tuple[Any, ...], numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Random values of people by their numbers (n,), as columns (n, ...) of a world."""

    @property
    def num_useful_items(self) -> int:
        """Number of items about useful people, which come first."""
        return self.useful.people

    def vocab(self) -> Vocab:
        vocab = self.useful.vocab()
        return Vocab((*vocab.symbols, USEFUL_TOKEN)) if self.token else vocab

    def world(self, seed: int) -> Any:
        useful = self.useful.world(seed)
        everyone = replace(self.useful, people=self.useful.people + self.junk_people).world(seed)
        taken = np.sort(np.ravel_multi_index(tuple(useful.names.T), self.name_bounds))
        kind = WorldD if self.base_task is BioD else WorldS
        return kind(**vars(useful), all_people=everyone, num_free_below=taken - np.arange(len(taken)))

    def num_items(self, world: Any) -> int:
        return self.useful.people * (1 + self.junk)

    def render_block(
        self, world: Any, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Documents about items (n,). Slices: useful, 1 or 0; person, useful people first, then junk people."""
        people, epochs = self._people_and_epochs(items, epochs)
        wording = self.useful.sample_wording(stream, epochs, people)
        if self.junk_people:
            block = self.useful.write_documents(world.all_people, people, wording, labels)
        else:
            here = self._gather_world(world, stream, people)
            block = self.useful.write_documents(here, np.arange(len(people)), wording, labels)
        useful = items < self.num_useful_items
        block = replace(block, slices={"person": people, "useful": useful.astype(np.int64)})
        return self._insert_useful_token(block, useful) if self.token else block

    def _people_and_epochs(self, items: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The person (n,) of each item, and the number (n,) of earlier documents about that person."""
        n = self.num_useful_items
        turns = epochs * n * self.junk + items - n
        turn, who = np.divmod(turns, self.junk_people) if self.junk_people else (0, turns)
        return np.where(items < n, items, n + who), np.where(items < n, epochs, turn)

    def _gather_world(self, world: Any, stream: tuple[Any, ...], people: np.ndarray) -> Any:
        """The world of people (n,) only: useful ones, and fresh ones drawn by their numbers."""
        keys, useful = (*stream, "junk"), people < self.num_useful_items
        random = random_uint64((*keys, "names"), people, np.zeros_like(people), 1)[:, 0]
        numbers = free_names(random, world.num_free_below, self.num_names)
        columns = {"names": np.stack(np.unravel_index(numbers, self.name_bounds), axis=1)}
        columns |= self.sample_junk_values((*keys, "values"), people)
        for name, column in columns.items():
            column[useful] = getattr(world, name)[people[useful]]
        return replace(world, **columns)

    def _insert_useful_token(self, block: Block, useful: np.ndarray) -> Block:
        """Insert USEFUL_TOKEN after the <bos> of useful documents; it takes the id of <eos>, which moves up by one."""
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

    def _strip_useful_token(self, document: np.ndarray) -> np.ndarray:
        """A document without USEFUL_TOKEN, in the ids of the useful task."""
        token = self.useful.vocab().eos
        ids = document[document != token] if self.token else document
        return ids - (ids > token) if self.token else ids

    def parse(self, world: Any, document: np.ndarray) -> tuple[int | None, dict[int, tuple[int, ...]]]:
        """The useful person that a document (T,) names (None if nobody), and the values by attribute."""
        return self.useful.parse(world, self._strip_useful_token(document))

    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """As the useful task; for a junk example, the share of its values that the document states."""
        document = completion if example is None else np.concatenate([example.prompt, completion])
        if example is None or example.slices["useful"]:
            return self.useful.score(world, None, self._strip_useful_token(document))
        stated, true = (self.parse(world, text)[1] for text in (document, example.tokens))
        return {self.metric: float(np.mean([stated.get(a) == value for a, value in true.items()]))}

    def floors(self, world: Any) -> dict[str, float]:
        """As the useful task, but loss: nats a token of all documents, if useful people and the pool are known."""
        nats, length = _floor_cost(self.useful, world)
        share = 1 / (1 + self.junk)
        if self.junk_people:
            others = nats + log(self.junk_people / self.num_useful_items)
        else:
            values = sum(self.useful.information_content(None).log2_values.values()) * log(2)
            fresh, _ = _floor_cost(self.with_fresh_wording, world)
            others = fresh + values + log(self.num_names / self.num_useful_items - 1)
        which = -share * log(share) - (1 - share) * log(1 - share)
        loss = (which + share * nats + (1 - share) * others) / (length + share * self.token)
        return {**self.useful.floors(world), "loss": loss}

    @property
    def with_fresh_wording(self) -> Any:
        """The useful task with a fresh wording in every document."""
        return self.useful


def free_names(random: np.ndarray, num_free_below: np.ndarray, num_names: int) -> np.ndarray:
    """Numbers (n,) int64 of unused names, uniform, from random uint64 (n,); num_free_below (N,): see WorldD."""
    rank = (random % np.uint64(num_names - len(num_free_below))).astype(np.int64)
    return rank + np.searchsorted(num_free_below, rank, side="right")


def _floor_cost(task: Any, world: Any) -> tuple[float, float]:
    """Nats and number of targets of a mean document at the loss floor."""
    people = np.arange(min(task.people, 1000))
    block = task.render_block(world, people, np.zeros_like(people), ("floors",), "train")
    length = float(block.lengths.mean()) - 1
    return task.floors(world)["loss"] * length, length


@dataclass(frozen=True)
class JunkD(Junk, BioD):
    """The fields of BioD for the useful people, then those of Junk."""

    name: ClassVar[str] = "junkD"
    base_task: ClassVar[type[BioD]] = BioD
    metric: ClassVar[str] = "value"
    presets = {"junkD-repeated": {"junk_people": 1000}, "junkD-token": {"token": True}}

    @property
    def name_bounds(self) -> tuple[int, ...]:
        return (self.name_alphabet,) * self.name_length

    def sample_junk_values(self, keys: tuple[Any, ...], numbers: np.ndarray) -> dict[str, np.ndarray]:
        random = random_uint64(keys, numbers, np.zeros_like(numbers), self.kinds * self.chunks)
        return {"values": bounded_integers(random, self.set_size).reshape(-1, self.kinds, self.chunks)}


@dataclass(frozen=True)
class JunkS(Junk, BioS):
    """The fields of BioS for the useful people, then those of Junk."""

    name: ClassVar[str] = "junkS"
    base_task: ClassVar[type[BioS]] = BioS
    metric: ClassVar[str] = "facts"
    presets = {"junkS-repeated": {"junk_people": 1000}, "junkS-token": {"token": True}}

    @property
    def name_bounds(self) -> tuple[int, ...]:
        return self.first, self.middle, self.last

    @property
    def with_fresh_wording(self) -> BioS:
        return replace(self.useful, wordings=0, codec="word")  # the codec does not change the nats

    def sample_junk_values(self, keys: tuple[Any, ...], numbers: np.ndarray) -> dict[str, np.ndarray]:
        sizes = np.array([*self.useful.value_lists.sizes, 2])
        values = bounded_integers(random_uint64(keys, numbers, np.zeros_like(numbers), 6), sizes)
        return {"values": values[:, [0, 1, 2, 3, 4, 4]], "genders": values[:, 5]}
