"""bioD(N, K, C, D, L, T): people whose values are random strings (Part 3.3, arXiv 2404.05405, Definition 2.2).

Everything about them is information that can be counted: who exists, which values they have, and which strings values
are made of. A document is <bos> name, then for each attribute its mark and its C chunks of L symbols, <eos>.
"""

from dataclasses import dataclass
from functools import cached_property
from math import factorial, log, log2
from typing import Any, ClassVar

import numpy as np

from synth.bio import Facts, PeopleTask
from synth.bio.world import NAME, VALUE, check_names, choices, distinct
from synth.errors import UserError
from synth.random.rng import words
from synth.task import Block, Example
from synth.vocab import Vocab


@dataclass(frozen=True)
class World:
    """names (N, name_length), values (N, K, C) numbers of strings, strings (K, D, L); symbols counted from 0."""

    names: np.ndarray
    values: np.ndarray
    strings: np.ndarray

    @cached_property
    def person(self) -> dict[bytes, int]:
        """From the bytes of a name to the person's number."""
        return {name.tobytes(): i for i, name in enumerate(self.names)}


@dataclass(frozen=True)
class BioD(PeopleTask):
    """people N, kinds K (attributes), chunks C, set_size D, length L, alphabet T: the paper's six parameters.

    N names are drawn without replacement from the N0 = name_alphabet ** name_length strings; each attribute has its own
    set of D distinct strings of T^L, and a value is C of them. Names and values share their symbols, so that the
    vocabulary is max(T, name_alphabet) + K + 3. permute: the attributes come in a fresh order in every exposure.
    A larger N adds people and changes nobody.
    """

    people: int = 1000
    kinds: int = 4
    chunks: int = 1
    set_size: int = 16
    length: int = 2
    alphabet: int = 32
    name_length: int = 3
    name_alphabet: int = 32
    permute: bool = True

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
        check_names(self.people, self.name_alphabet**self.name_length)

    @property
    def symbols(self) -> int:
        """Symbols that names and values are written in."""
        return max(self.alphabet, self.name_alphabet)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(f"a{k}" for k in range(self.kinds))

    @property
    def size(self) -> int:
        """Tokens of a document, <bos> and <eos> included."""
        return 2 + self.name_length + self.kinds * (1 + self.chunks * self.length)

    def vocab(self) -> Vocab:
        return Vocab((*(f"s{i}" for i in range(self.symbols)), *self.attributes))

    def world(self, seed: int) -> World:
        """The people; those of a larger world with otherwise equal parameters begin with those of a smaller one."""
        names = distinct(("bioD names", seed), (self.name_alphabet,) * self.name_length, self.people)
        values = [choices(("bioD values", seed, k), (self.set_size,) * self.chunks, self.people) for k in self._kinds]
        sets = [distinct(("bioD set", seed, k), (self.alphabet,) * self.length, self.set_size) for k in self._kinds]
        return World(names, np.stack(values, axis=1), np.stack(sets))

    @property
    def _kinds(self) -> range:
        return range(self.kinds)

    def items(self, world: World) -> int:
        return self.people

    def facts(self, world: World | None = None) -> Facts:
        """N log2(N0/N), N K C log2 D and K D log2(T^L/D), exact."""
        value = self.chunks * log2(self.set_size)
        names, strings = self.name_length * log2(self.name_alphabet), self.length * log2(self.alphabet)
        values = dict.fromkeys(self.attributes, value)
        return Facts(self.people, names, values, self.kinds, self.set_size, strings)

    def wording(self, stream: tuple[Any, ...], epochs: np.ndarray, people: np.ndarray) -> np.ndarray:
        """The order (n, K) in which the attributes are told."""
        if self.permute:
            return np.argsort(words((*stream, "order"), epochs, people, self.kinds), axis=1)
        return np.tile(np.arange(self.kinds), (len(people), 1))

    def write(self, world: World, people: np.ndarray, wording: np.ndarray, labels: bool) -> Block:
        """Documents (n, size) end to end; label `chunk` says which chunk of its value a token belongs to, else -1."""
        n, head, order = len(people), 1 + self.name_length, wording
        tokens = np.zeros((n, self.size), np.int32)
        tokens[:, 1:head] = world.names[people] + 1
        body = tokens[:, head:-1].reshape(n, self.kinds, -1)
        body[:, :, 0] = order + self.symbols + 1
        values = np.take_along_axis(world.values[people], order[:, :, None], axis=1)
        body[:, :, 1:] = world.strings[order[:, :, None], values].reshape(n, self.kinds, -1) + 1
        tokens[:, head:-1] = body.reshape(n, -1)
        tokens[:, -1] = self.symbols + self.kinds + 1
        mask = np.ones_like(tokens, bool)
        mask[:, 0] = False
        offsets = np.arange(n + 1, dtype=np.int64) * self.size
        prompts, slices = np.full(n, head, np.int64), {"person": people}
        return Block(tokens.ravel(), offsets, mask.ravel(), prompts, slices, self._labels(order) if labels else {})

    def _labels(self, order: np.ndarray) -> dict[str, np.ndarray]:
        n, width = len(order), self.chunks * self.length
        part, attribute, chunk = (np.full((n, self.size), fill, np.int8) for fill in (0, -1, -1))
        part[:, 1 : 1 + self.name_length] = NAME
        inside = np.zeros((self.kinds, 1 + width), bool)
        inside[:, 1:] = True
        columns = 1 + self.name_length + np.flatnonzero(inside)
        part[:, columns] = VALUE
        attribute[:, columns] = np.repeat(order, width, axis=1)
        chunk[:, columns] = np.tile(np.repeat(np.arange(self.chunks), self.length), self.kinds)
        return {"part": part.ravel(), "attribute": attribute.ravel(), "chunk": chunk.ravel()}

    def read(self, world: World, document: np.ndarray) -> tuple[int | None, dict[int, tuple[int, ...]]]:
        """What a document (T,) of ids says: the person it names (None if nobody), and the symbols of each value.

        An attribute told twice counts as it is told first; a value that is cut short is left out.
        """
        body = np.asarray(document, np.int64)
        body = body[1:] if len(body) and body[0] == 0 else body
        person = world.person.get((body[: self.name_length] - 1).tobytes())
        width = self.chunks * self.length
        said: dict[int, tuple[int, ...]] = {}
        for at in np.flatnonzero((body > self.symbols) & (body <= self.symbols + self.kinds)).tolist():
            value = tuple((body[at + 1 : at + 1 + width] - 1).tolist())
            if len(value) == width:
                said.setdefault(int(body[at]) - self.symbols - 1, value)
        return person, said

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """value: share of the person's values that the document tells exactly; 0 when it names nobody."""
        document = completion if example is None else np.concatenate([example.prompt, completion])
        person, said = self.read(world, document)
        if person is None:
            return {"value": 0.0}
        true = world.strings[np.arange(self.kinds)[:, None], world.values[person]].reshape(self.kinds, -1)
        return {"value": float(np.mean([said.get(k) == tuple(true[k].tolist()) for k in self._kinds]))}

    def floors(self, world: World) -> dict[str, float]:
        """value: a guess; loss: nats a token when every fact is known (who comes next and in what order is not); bits:
        what the people hold."""
        order = log(factorial(self.kinds)) if self.permute else 0.0
        loss = (log(self.people) + order) / (self.size - 1)
        return {"value": float(self.set_size) ** -self.chunks, "loss": loss, "bits": self.facts().bits}
