"""bioD: people whose attributes are random strings (Part 3.3, arXiv 2404.05405, Definition 2.2)."""

from dataclasses import dataclass
from functools import cached_property
from math import factorial, log, log2
from typing import Any, ClassVar

import numpy as np

from synth.bio import InformationContent, PeopleTask
from synth.bio.world import NAME_PART, VALUE_PART, check_enough_names, sample_distinct_rows, sample_rows
from synth.errors import UserError
from synth.random.rng import random_uint64
from synth.task import Block, Example
from synth.vocab import Vocab


@dataclass(frozen=True)
class World:
    """names (N, name_length), values (N, K, C) indices of strings, strings (K, D, L); symbols from 0."""

    names: np.ndarray
    values: np.ndarray
    strings: np.ndarray

    @cached_property
    def person(self) -> dict[bytes, int]:
        """Number of the person by the bytes of the name."""
        return {name.tobytes(): i for i, name in enumerate(self.names)}


@dataclass(frozen=True)
class BioD(PeopleTask):
    """People whose attributes are random strings: bioD(N, K, C, D, L, T).

    Example (kinds=2): `<bos> s8 s12 s3 a0 s8 s19 a1 s6 s21 <eos>`: a name, then each attribute with its value. Names
    are drawn without replacement from the name_alphabet ** name_length strings. A larger N only adds people.
    Source: Part 3.3 (arXiv 2404.05405), Definition 2.2 and Figure 4.
    Floors: value of a guess, loss of knowing every fact, bits of information in the people.
    """

    people: int = 1000
    """Number of people, N."""
    kinds: int = 4
    """Number of attributes, K."""
    chunks: int = 1
    """Strings in a value, C."""
    set_size: int = 16
    """Distinct strings that an attribute draws from, D."""
    length: int = 2
    """Symbols in a string, L."""
    alphabet: int = 32
    """Symbols that strings are made of, T (shared with names)."""
    name_length: int = 3
    """Symbols in a name."""
    name_alphabet: int = 32
    """Symbols that names are made of."""
    permute: bool = True
    """Attributes come in a fresh random order in every exposure."""

    name: ClassVar[str] = "bioD"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.3 (arXiv 2404.05405), Definition 2.2 and Figure 4"

    def __post_init__(self) -> None:
        for name in ("kinds", "chunks", "set_size", "length", "alphabet", "name_length", "name_alphabet"):
            if getattr(self, name) < 1:
                raise UserError(f"bioD: {name}={getattr(self, name)} must be at least 1")
        if self.set_size > self.alphabet**self.length:
            raise UserError(
                f"bioD: a set of {self.set_size} distinct strings does not exist among alphabet^length = "
                f"{self.alphabet**self.length}; lower set_size or raise length or alphabet"
            )
        check_enough_names(self.people, self.name_alphabet**self.name_length)

    @property
    def num_symbols(self) -> int:
        """Number of symbols of names and values."""
        return max(self.alphabet, self.name_alphabet)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(f"a{k}" for k in range(self.kinds))

    @property
    def document_length(self) -> int:
        """Tokens of a document, <bos> and <eos> included."""
        return 2 + self.name_length + self.kinds * (1 + self.chunks * self.length)

    def vocab(self) -> Vocab:
        return Vocab((*(f"s{i}" for i in range(self.num_symbols)), *self.attributes))

    def world(self, seed: int) -> World:
        """The people; with otherwise equal fields, those of a larger world begin with those of a smaller one."""
        names = sample_distinct_rows(("bioD names", seed), (self.name_alphabet,) * self.name_length, self.people)
        values = [
            sample_rows(("bioD values", seed, k), (self.set_size,) * self.chunks, self.people) for k in self._kind_range
        ]
        sets = [
            sample_distinct_rows(("bioD set", seed, k), (self.alphabet,) * self.length, self.set_size)
            for k in self._kind_range
        ]
        return World(names, np.stack(values, axis=1), np.stack(sets))

    @property
    def _kind_range(self) -> range:
        return range(self.kinds)

    def num_items(self, world: World) -> int:
        return self.people

    def information_content(self, world: World | None = None) -> InformationContent:
        """Exact bits: N log2(N0/N) + N K C log2 D + K D log2(T^L/D)."""
        value = self.chunks * log2(self.set_size)
        names, strings = self.name_length * log2(self.name_alphabet), self.length * log2(self.alphabet)
        values = dict.fromkeys(self.attributes, value)
        return InformationContent(self.people, names, values, self.kinds, self.set_size, strings)

    def sample_wording(self, stream: tuple[Any, ...], epochs: np.ndarray, people: np.ndarray) -> np.ndarray:
        """The order (n, K) of the attributes."""
        if self.permute:
            return np.argsort(random_uint64((*stream, "order"), epochs, people, self.kinds), axis=1)
        return np.tile(np.arange(self.kinds), (len(people), 1))

    def write_documents(self, world: World, people: np.ndarray, wording: np.ndarray, labels: bool) -> Block:
        """Documents with the labels of PeopleTask and `chunk`: index of the chunk of a value, else -1."""
        n, head, order = len(people), 1 + self.name_length, wording
        tokens = np.zeros((n, self.document_length), np.int32)
        tokens[:, 1:head] = world.names[people] + 1
        body = tokens[:, head:-1].reshape(n, self.kinds, -1)
        body[:, :, 0] = order + self.num_symbols + 1
        values = np.take_along_axis(world.values[people], order[:, :, None], axis=1)
        body[:, :, 1:] = world.strings[order[:, :, None], values].reshape(n, self.kinds, -1) + 1
        tokens[:, head:-1] = body.reshape(n, -1)
        tokens[:, -1] = self.num_symbols + self.kinds + 1
        mask = np.ones_like(tokens, bool)
        mask[:, 0] = False
        offsets = np.arange(n + 1, dtype=np.int64) * self.document_length
        prompts, slices = np.full(n, head, np.int64), {"person": people}
        return Block(tokens.ravel(), offsets, mask.ravel(), prompts, slices, self._labels(order) if labels else {})

    def _labels(self, order: np.ndarray) -> dict[str, np.ndarray]:
        n, width = len(order), self.chunks * self.length
        part, attribute, chunk = (np.full((n, self.document_length), fill, np.int8) for fill in (0, -1, -1))
        part[:, 1 : 1 + self.name_length] = NAME_PART
        inside = np.zeros((self.kinds, 1 + width), bool)
        inside[:, 1:] = True
        columns = 1 + self.name_length + np.flatnonzero(inside)
        part[:, columns] = VALUE_PART
        attribute[:, columns] = np.repeat(order, width, axis=1)
        chunk[:, columns] = np.tile(np.repeat(np.arange(self.chunks), self.length), self.kinds)
        return {"part": part.ravel(), "attribute": attribute.ravel(), "chunk": chunk.ravel()}

    def parse(self, world: World, document: np.ndarray) -> tuple[int | None, dict[int, tuple[int, ...]]]:
        """The person that a document (T,) of ids names (None if nobody), and the symbols of the values by attribute.

        The first value of an attribute counts; an incomplete value is left out.
        """
        body = np.asarray(document, np.int64)
        body = body[1:] if len(body) and body[0] == 0 else body
        person = world.person.get((body[: self.name_length] - 1).tobytes())
        width = self.chunks * self.length
        values: dict[int, tuple[int, ...]] = {}
        for at in np.flatnonzero((body > self.num_symbols) & (body <= self.num_symbols + self.kinds)).tolist():
            value = tuple((body[at + 1 : at + 1 + width] - 1).tolist())
            if len(value) == width:
                values.setdefault(int(body[at]) - self.num_symbols - 1, value)
        return person, values

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """value: share of the person's values that are exactly right; 0 if the document names nobody."""
        document = completion if example is None else np.concatenate([example.prompt, completion])
        person, values = self.parse(world, document)
        if person is None:
            return {"value": 0.0}
        true = world.strings[np.arange(self.kinds)[:, None], world.values[person]].reshape(self.kinds, -1)
        return {"value": float(np.mean([values.get(k) == tuple(true[k].tolist()) for k in self._kind_range]))}

    def floors(self, world: World) -> dict[str, float]:
        """value: chance; loss: nats a token of a model that knows every fact, but not the person and order; bits."""
        order = log(factorial(self.kinds)) if self.permute else 0.0
        loss = (log(self.people) + order) / (self.document_length - 1)
        return {"value": float(self.set_size) ** -self.chunks, "loss": loss, "bits": self.information_content().bits}
