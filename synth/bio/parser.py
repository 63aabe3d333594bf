"""Parsing biographies: each sentence is matched against all patterns that could have been written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.bio.tables import Ragged
from synth.vocab import Vocab

PERSON_SLOT = -1
Pattern = tuple[int, ...]  # word ids, PERSON_SLOT, value_slot(attribute) and phrase_slot(kind)
Name = tuple[int, ...]  # numbers of the first, middle and last name
StatedValues = tuple[tuple[int, tuple[int, ...]], ...]  # attributes and the ids of their values
Values = dict[int, tuple[int, ...]]


def value_slot(attribute: int) -> int:
    """The pattern element that matches any value of an attribute."""
    return -10 - attribute


def phrase_slot(kind: int) -> int:
    """The pattern element that matches any phrase of a kind."""
    return -100 - kind


@dataclass
class TrieNode:
    """A node in a trie of patterns: its children by element, and whether a pattern ends here."""

    next: dict[int, "TrieNode"] = field(default_factory=dict)
    end: bool = False

    @classmethod
    def from_patterns(cls, patterns: Iterable[Pattern]) -> "TrieNode":
        """The root of the trie of these patterns."""
        root = cls()
        for pattern in patterns:
            node = root
            for part in pattern:
                node = node.next.setdefault(part, cls())
            node.end = True
        return root


class BiographyParser:
    """Parser of texts whose sentences have the given patterns.

    phrases: patterns of the phrases of each kind; values: texts of the values of each attribute; names: ids of the
    first, middle and last names; mentions: other expressions for the person.
    """

    def __init__(
        self, patterns: Iterable[Pattern], phrases: Sequence[Iterable[Pattern]], values: Sequence[Ragged],
        names: Sequence[np.ndarray], mentions: Iterable[tuple[int, ...]], vocab: Vocab,
    ) -> None:  # fmt: skip
        self.trie, self.phrases = TrieNode.from_patterns(patterns), [TrieNode.from_patterns(kind) for kind in phrases]
        self.values = [frozenset(ragged.rows) for ragged in values]
        self.sizes = [sorted(set(np.diff(ragged.starts).tolist())) for ragged in values]
        self.names = [{int(word): i for i, word in enumerate(column)} for column in names]
        self.mentions = frozenset(mentions)
        self.possessive, self.full_stop = vocab.index.get("'s", -1), vocab.index["."]
        self.special = frozenset((vocab.bos, vocab.eos, vocab.pad))

    def parse(self, document: Sequence[int]) -> tuple[Name | None, Values]:
        """The first full name in a document (None if there is none) and the ids of that person's values by attribute.

        Of several values of an attribute the first counts; sentences about other people, ambiguous sentences and other
        text are ignored.
        """
        person: Name | None = None
        values: Values = {}
        for sentence in self._split_sentences(document):
            readings = set(self.sentence_parses(sentence))
            if len(readings) != 1:
                continue
            name, stated = readings.pop()
            person = person or name
            if name in (None, person):
                for attribute, value in stated:
                    values.setdefault(attribute, value)
        return person, values

    def _split_sentences(self, document: Sequence[int]) -> Iterator[tuple[int, ...]]:
        sentence: list[int] = []
        for token in document:
            if token not in self.special:
                sentence.append(int(token))
            if token == self.full_stop:
                yield tuple(sentence)
                sentence = []

    def sentence_parses(self, sentence: tuple[int, ...]) -> Iterator[tuple[Name | None, StatedValues]]:
        """Yield every reading of a sentence: its name, if any, and the values it states."""
        for at, name, stated in self._match(self.trie, sentence, 0, None, ()):
            if at == len(sentence):
                yield name, stated

    def _match(
        self, node: TrieNode, words: tuple[int, ...], at: int, name: Name | None, stated: StatedValues
    ) -> Iterator[tuple[int, Name | None, StatedValues]]:
        """Yield every match of words[at:] from a node on: its end, its name and its values."""
        if node.end:
            yield at, name, stated
        for part, after in node.next.items():
            if part >= 0:
                if at < len(words) and words[at] == part:
                    yield from self._match(after, words, at + 1, name, stated)
            elif part == PERSON_SLOT:
                for stop, mentioned in self._match_person(words, at):
                    yield from self._match(after, words, stop, name or mentioned, stated)
            elif part > phrase_slot(0):
                attribute = value_slot(0) - part
                for size in self.sizes[attribute]:
                    value = words[at : at + size]
                    if value in self.values[attribute]:
                        yield from self._match(after, words, at + len(value), name, (*stated, (attribute, value)))
            else:
                for stop, _, more in self._match(self.phrases[phrase_slot(0) - part], words, at, None, ()):
                    yield from self._match(after, words, stop, name, (*stated, *more))

    def _match_person(self, words: tuple[int, ...], at: int) -> Iterator[tuple[int, Name | None]]:
        """Yield the end of each mention of the person that begins at `at`, and the name if it is one."""
        numbers = [index.get(word) for word, index in zip(words[at : at + 3], self.names, strict=False)]
        name = tuple(number for number in numbers if number is not None)
        if len(name) == 3:
            yield at + 3 + (words[at + 3 : at + 4] == (self.possessive,)), name
        for size in (1, 2, 3):
            if words[at : at + size] in self.mentions:
                yield min(at + size, len(words)), None
