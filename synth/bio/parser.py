"""What a biography says, from its text alone: its sentences are matched against all that could have been written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.bio.tables import Ragged
from synth.vocab import Vocab

PERSON = -1
Form = tuple[int, ...]  # word ids, PERSON, value_of(attribute) and phrase_of(kind)
Name = tuple[int, ...]  # numbers of the first, middle and last name
Told = tuple[tuple[int, tuple[int, ...]], ...]  # attributes and the ids of their values
Values = dict[int, tuple[int, ...]]


def value_of(attribute: int) -> int:
    """The part of a form that stands for any value of an attribute."""
    return -10 - attribute


def phrase_of(kind: int) -> int:
    """The part of a form that stands for any phrase of a kind."""
    return -100 - kind


@dataclass
class Node:
    """A place in a tree of forms: what may come next, and whether a form may end here."""

    next: dict[int, "Node"] = field(default_factory=dict)
    end: bool = False

    @classmethod
    def of(cls, forms: Iterable[Form]) -> "Node":
        root = cls()
        for form in forms:
            node = root
            for part in form:
                node = node.next.setdefault(part, cls())
            node.end = True
        return root


class Reader:
    """Reads texts whose sentences have the given forms. phrases: for each kind the forms of its phrases; values: for
    each attribute the texts of its values; names: ids of the first, middle and last names; mentions: what else may
    stand for the person."""

    def __init__(
        self, forms: Iterable[Form], phrases: Sequence[Iterable[Form]], values: Sequence[Ragged],
        names: Sequence[np.ndarray], mentions: Iterable[tuple[int, ...]], vocab: Vocab,
    ) -> None:  # fmt: skip
        self.root, self.phrases = Node.of(forms), [Node.of(kind) for kind in phrases]
        self.values = [frozenset(ragged.rows) for ragged in values]
        self.sizes = [sorted(set(np.diff(ragged.starts).tolist())) for ragged in values]
        self.names = [{int(word): i for i, word in enumerate(column)} for column in names]
        self.mentions = frozenset(mentions)
        self.possessive, self.stop = vocab.index.get("'s", -1), vocab.index["."]
        self.special = frozenset((vocab.bos, vocab.eos, vocab.pad))

    def read(self, document: Sequence[int]) -> tuple[Name | None, Values]:
        """The first full name and, for each attribute told of that person, the ids of its value.

        What is told twice counts as told first; sentences about other people, sentences that could mean two things and
        other text are passed over.
        """
        person: Name | None = None
        said: Values = {}
        for sentence in self._sentences(document):
            readings = set(self.readings(sentence))
            if len(readings) != 1:
                continue
            name, told = readings.pop()
            person = person or name
            if name in (None, person):
                for attribute, value in told:
                    said.setdefault(attribute, value)
        return person, said

    def _sentences(self, document: Sequence[int]) -> Iterator[tuple[int, ...]]:
        sentence: list[int] = []
        for token in document:
            if token not in self.special:
                sentence.append(int(token))
            if token == self.stop:
                yield tuple(sentence)
                sentence = []

    def readings(self, sentence: tuple[int, ...]) -> Iterator[tuple[Name | None, Told]]:
        """All that one sentence can mean: the name in it, if any, and what it tells."""
        for at, name, told in self._walk(self.root, sentence, 0, None, ()):
            if at == len(sentence):
                yield name, told

    def _walk(
        self, node: Node, words: tuple[int, ...], at: int, name: Name | None, told: Told
    ) -> Iterator[tuple[int, Name | None, Told]]:
        """The ways from a node through the words from `at`: where each ends, and what was read on it."""
        if node.end:
            yield at, name, told
        for part, after in node.next.items():
            if part >= 0:
                if at < len(words) and words[at] == part:
                    yield from self._walk(after, words, at + 1, name, told)
            elif part == PERSON:
                for stop, found in self._people(words, at):
                    yield from self._walk(after, words, stop, name or found, told)
            elif part > phrase_of(0):
                attribute = value_of(0) - part
                for size in self.sizes[attribute]:
                    value = words[at : at + size]
                    if value in self.values[attribute]:
                        yield from self._walk(after, words, at + len(value), name, (*told, (attribute, value)))
            else:
                for stop, _, more in self._walk(self.phrases[phrase_of(0) - part], words, at, None, ()):
                    yield from self._walk(after, words, stop, name, (*told, *more))

    def _people(self, words: tuple[int, ...], at: int) -> Iterator[tuple[int, Name | None]]:
        """Where a mention of the person that begins at `at` ends, and the name if it is one."""
        known = [index.get(word) for word, index in zip(words[at : at + 3], self.names, strict=False)]
        name = tuple(number for number in known if number is not None)
        if len(name) == 3:
            yield at + 3 + (words[at + 3 : at + 4] == (self.possessive,)), name
        for size in (1, 2, 3):
            if words[at : at + size] in self.mentions:
                yield min(at + size, len(words)), None
