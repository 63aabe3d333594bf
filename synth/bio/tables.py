"""Sentences and values as arrays of ids: what the kernel copies biographies together from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synth.bio.value_lists import PERSON, VALUE
from synth.vocab import Vocab

HE = ("He", "he", "His", "his", "him")  # in the order of PERSON
SHE = ("She", "she", "Her", "her", "her")
SOMEBODY = (("The", "person"), ("the", "person"), ("The", "person", "'s"), ("the", "person", "'s"), ("the", "person"))
POSSESSIVE = ("{P}", "{p}")
SLOTS = {word: -1 - i for i, word in enumerate((*PERSON, VALUE))}
BY_NAME, BY_PRONOUN, BY_ROLE = 0, 1, 2  # how a sentence speaks of the person


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths end to end: row i is flat[starts[i]:starts[i+1]]."""

    flat: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        return cls(np.array([x for row in rows for x in row], np.int32), starts)

    @classmethod
    def join(cls, parts: Sequence["Ragged"]) -> tuple["Ragged", np.ndarray]:
        """All rows of all parts, and where each part's rows begin."""
        lengths = [np.diff(part.starts) for part in parts]
        first = np.cumsum([0, *map(len, lengths)])[:-1]
        starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return cls(np.concatenate([part.flat for part in parts]), starts), first

    @cached_property
    def rows(self) -> list[tuple[int, ...]]:
        flat, starts = self.flat.tolist(), self.starts.tolist()
        return [tuple(flat[a:b]) for a, b in zip(starts, starts[1:], strict=False)]

    @cached_property
    def longest(self) -> int:
        return int(np.diff(self.starts).max())


def words_of(sentences: Iterable[Sequence[str]]) -> list[str]:
    """The fixed words of sentences, each once, in order."""
    return list(dict.fromkeys(word for words in sentences for word in words if word not in SLOTS))


def mention_words(sentences: Iterable[Sequence[str]], pronouns: bool, roles: bool) -> list[str]:
    """The words that may stand in the person slots of the sentences, each once."""
    used = {word for words in sentences for word in words}
    found: list[str] = []
    for i, slot in enumerate(PERSON):
        if slot in used:
            found += ["'s"] if slot in POSSESSIVE else []
            found += [HE[i], SHE[i]] if pronouns else []
            found += SOMEBODY[i] if roles else []
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Tables:
    """sentences: ids and slots (< 0); pronouns (5, 2) and somebody: what stands in slot -1-i; possessive: the id of
    's (-1 if the vocabulary has none)."""

    sentences: Ragged
    pronouns: np.ndarray
    somebody: Ragged
    possessive: int

    @property
    def mentions(self) -> frozenset[tuple[int, ...]]:
        """What may stand for the person instead of the name."""
        return frozenset({(int(word),) for word in self.pronouns.ravel()} | set(self.somebody.rows)) - {(-1,)}

    @classmethod
    def of(cls, sentences: Sequence[Sequence[str]], vocab: Vocab) -> "Tables":
        """Words of the slots that the vocabulary lacks are -1: no sentence of this task needs them."""
        index = vocab.index
        rows = [[SLOTS[word] if word in SLOTS else index[word] for word in words] for words in sentences]
        pronouns = np.array([[index.get(a, -1), index.get(b, -1)] for a, b in zip(HE, SHE, strict=True)], np.int32)
        somebody = Ragged.of([[index.get(word, -1) for word in words] for words in SOMEBODY])
        return cls(Ragged.of(rows), pronouns, somebody, index.get("'s", -1))
