"""Sentences and values as arrays of ids, from which biographies are copied."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synth.bio.value_lists import PERSON_SLOTS, VALUE_SLOT
from synth.vocab import Vocab

MALE_PRONOUNS = ("He", "he", "His", "his", "him")  # in the order of PERSON_SLOTS
FEMALE_PRONOUNS = ("She", "she", "Her", "her", "her")
ROLE_PHRASES = tuple(
    tuple(text.split()) for text in ("The person", "the person", "The person 's", "the person 's", "the person")
)
POSSESSIVE_SLOTS = ("{P}", "{p}")
SLOT_CODES = {word: -1 - i for i, word in enumerate((*PERSON_SLOTS, VALUE_SLOT))}
BY_NAME, BY_PRONOUN, BY_ROLE = 0, 1, 2  # how a sentence mentions the person


@dataclass(frozen=True)
class Ragged:
    """Concatenated rows of different lengths: row i is flat[starts[i]:starts[i+1]]."""

    flat: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        """The rows of a list of lists."""
        starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        return cls(np.array([x for row in rows for x in row], np.int32), starts)

    @classmethod
    def concatenate(cls, parts: Sequence["Ragged"]) -> tuple["Ragged", np.ndarray]:
        """All rows of all parts, and the first row (P,) of each part."""
        lengths = [np.diff(part.starts) for part in parts]
        first = np.cumsum([0, *map(len, lengths)])[:-1]
        starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return cls(np.concatenate([part.flat for part in parts]), starts), first

    @cached_property
    def rows(self) -> list[tuple[int, ...]]:
        """The rows as tuples."""
        flat, starts = self.flat.tolist(), self.starts.tolist()
        return [tuple(flat[a:b]) for a, b in zip(starts, starts[1:], strict=False)]

    @cached_property
    def longest(self) -> int:
        """Length of the longest row."""
        return int(np.diff(self.starts).max())


def fixed_words(sentences: Iterable[Sequence[str]]) -> list[str]:
    """The distinct words of sentences, without slots, in order."""
    return list(dict.fromkeys(word for words in sentences for word in words if word not in SLOT_CODES))


def mention_words(sentences: Iterable[Sequence[str]], pronouns: bool, roles: bool) -> list[str]:
    """The distinct words that can fill the person slots of sentences."""
    used = {word for words in sentences for word in words}
    fillers: list[str] = []
    for i, slot in enumerate(PERSON_SLOTS):
        if slot in used:
            fillers += ["'s"] if slot in POSSESSIVE_SLOTS else []
            fillers += [MALE_PRONOUNS[i], FEMALE_PRONOUNS[i]] if pronouns else []
            fillers += ROLE_PHRASES[i] if roles else []
    return list(dict.fromkeys(fillers))


@dataclass(frozen=True)
class SentenceTables:
    """sentences: ids and slots (< 0); pronouns (5, 2), by gender, and role_phrases: what fills slot -1-i;
    possessive_id: id of 's. Ids that the vocabulary lacks are -1."""

    sentences: Ragged
    pronouns: np.ndarray
    role_phrases: Ragged
    possessive_id: int

    @property
    def mentions(self) -> frozenset[tuple[int, ...]]:
        """Ids of the expressions for the person other than the name."""
        return frozenset({(int(word),) for word in self.pronouns.ravel()} | set(self.role_phrases.rows)) - {(-1,)}

    @classmethod
    def from_sentences(cls, sentences: Sequence[Sequence[str]], vocab: Vocab) -> "SentenceTables":
        """The tables of sentences of words and slots."""
        index = vocab.index
        rows = [[SLOT_CODES[word] if word in SLOT_CODES else index[word] for word in words] for words in sentences]
        pairs = zip(MALE_PRONOUNS, FEMALE_PRONOUNS, strict=True)
        pronouns = np.array([[index.get(word, -1) for word in pair] for pair in pairs], np.int32)
        roles = Ragged.from_rows([[index.get(word, -1) for word in words] for words in ROLE_PHRASES])
        return cls(Ragged.from_rows(rows), pronouns, roles, index.get("'s", -1))
