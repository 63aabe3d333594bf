"""What a biography says, from its text alone: sentences are matched against the templates they may have come from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from synth.bio.tables import Ragged, Tables
from synth.vocab import Vocab

PERSON, VALUE, NAMING = -1, -6, -1  # the slots of a pattern; the "attribute" of a sentence that only tells the name
Name = tuple[int, ...]  # numbers of the first, middle and last name


@dataclass(frozen=True)
class Reader:
    """patterns: the attribute of a sentence in which the person is PERSON and the value VALUE; values: for each
    attribute the id tuples that are its values, and sizes their lengths, longest first; names: from ids to numbers of
    first, middle and last names; mentions: all else that may stand for the person."""

    patterns: dict[tuple[int, ...], int]
    values: tuple[frozenset[tuple[int, ...]], ...]
    sizes: tuple[list[int], ...]
    names: tuple[dict[int, int], ...]
    mentions: frozenset[tuple[int, ...]]
    possessive: int
    stop: int
    special: frozenset[int]

    @classmethod
    def of(
        cls, tables: Tables, attributes: Sequence[int], values: Sequence[Ragged], names: Sequence[np.ndarray],
        vocab: Vocab,
    ) -> "Reader":  # fmt: skip
        """attributes: which attribute each of the first sentences of the tables is about (NAMING: only the name)."""
        patterns = {
            tuple(code if code >= 0 or code == VALUE else PERSON for code in row): attribute
            for row, attribute in zip(_rows(tables.sentences), attributes, strict=False)
        }
        known = tuple(frozenset(_rows(ragged)) for ragged in values)
        sizes = tuple(sorted(set(np.diff(ragged.starts).tolist()), reverse=True) for ragged in values)
        index = tuple({int(word): i for i, word in enumerate(column)} for column in names)
        words = {(int(word),) for word in tables.pronouns.ravel()} | set(_rows(tables.somebody))
        mentions = frozenset(words - {(-1,)})
        special = frozenset((vocab.bos, vocab.eos, vocab.pad))
        possessive, stop = vocab.index.get("'s", -1), vocab.index["."]
        return cls(patterns, known, sizes, index, mentions, possessive, stop, special)

    def read(self, document: Sequence[int]) -> tuple[Name | None, dict[int, tuple[int, ...]]]:
        """The first full name (numbers of its three names) and, for each attribute told of that person, the ids of its
        value. What is told twice counts as told first; sentences about other people and other text are passed over."""
        person: Name | None = None
        said: dict[int, tuple[int, ...]] = {}
        for sentence in self._sentences(document):
            name, attribute, value = self.sentence(sentence)
            if attribute is None:
                continue
            person = person or name
            if attribute != NAMING and name in (None, person):
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

    def sentence(self, sentence: tuple[int, ...]) -> tuple[Name | None, int | None, tuple[int, ...]]:
        """The name, attribute and value of one sentence; attribute None when no template makes it."""
        for start, stop, name in self._people(sentence):
            head, tail = (*sentence[:start], PERSON), sentence[stop:]
            if head + tail in self.patterns:
                return name, self.patterns[head + tail], ()
            for at, stop, attribute in self._values(tail):
                if self.patterns.get((*head, *tail[:at], VALUE, *tail[stop:])) == attribute:
                    return name, attribute, tail[at:stop]
        return None, None, ()

    def _values(self, words: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
        """Where a value may stand: begin, end and attribute."""
        for at in range(len(words)):
            for attribute, (values, sizes) in enumerate(zip(self.values, self.sizes, strict=True)):
                for size in sizes:
                    if words[at : at + size] in values:
                        yield at, min(at + size, len(words)), attribute

    def _people(self, sentence: tuple[int, ...]) -> Iterator[tuple[int, int, Name | None]]:
        """Where the person may be mentioned: begin, end, and the name if it is one."""
        for at in range(len(sentence)):
            known = [index.get(word) for word, index in zip(sentence[at : at + 3], self.names, strict=False)]
            name = tuple(number for number in known if number is not None)
            if len(name) == 3:
                stop = at + 3 + (sentence[at + 3 : at + 4] == (self.possessive,))
                yield at, stop, name
            for size in (3, 2, 1):
                if sentence[at : at + size] in self.mentions:
                    yield at, at + size, None


def _rows(ragged: Ragged) -> list[tuple[int, ...]]:
    flat, starts = ragged.flat.tolist(), ragged.starts.tolist()
    return [tuple(flat[a:b]) for a, b in zip(starts, starts[1:], strict=False)]
