"""Everything that biographies over given lists are copied from, and read with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synth.bio.manipulation import words_needed
from synth.bio.parser import PERSON as ANYBODY
from synth.bio.parser import Form, Reader, phrase_of, value_of
from synth.bio.prose import Prose
from synth.bio.tables import BY_NAME, BY_PRONOUN, BY_ROLE, Ragged, Tables, mention_words, words_of
from synth.bio.value_lists import MONTHS, PERSON, VALUE, Pools, tokenize
from synth.vocab import Vocab

NAMING = ("The", "person", "'s", "name", "is", "{o}", ".")  # the last sentence of reverse6
ANSWER = ("Answer", ":", "{V}", ".")
YEAR = 1900


@dataclass(frozen=True)
class Kit:
    """vocab; tables: the templates, attribute by attribute, then the naming sentence (or the pieces of prose), and from
    row `questions` on the questions with their answers; names: ids of first, middle and last names; values: the texts
    of all values, those of attribute a from row bases[a]; reader: for texts about these values."""

    vocab: Vocab
    tables: Tables
    questions: int
    names: tuple[np.ndarray, np.ndarray, np.ndarray]
    values: Ragged
    bases: np.ndarray
    reader: Reader

    @classmethod
    @lru_cache(maxsize=16)  # worlds of any number of people share it
    def of(cls, pools: Pools, fullname: bool, reverse: int, prose: Prose | None, reasoning: bool = False) -> "Kit":
        """The kit of these lists for one way of writing (see BioS)."""
        naming = [NAMING] if reverse == 6 else []
        templates = [*(words for found in pools.templates for words in found), *naming]
        sentences = list(prose.pieces) if prose else templates
        questions = [(*words, *ANSWER) for found in pools.questions for words in found]
        values = [_texts(entries) for entries in _entries(pools)]
        heads = mention_words(sentences, pronouns=not fullname, roles=reverse > 0)
        owned = mention_words(questions, pronouns=False, roles=False)
        symbols = [*words_of([*sentences, *questions]), *heads, *owned, *_date_words(pools)]
        symbols += [word for texts in values for words in texts for word in words]
        symbols += words_needed(pools) if reasoning else []
        vocab = Vocab(tuple(dict.fromkeys((*symbols, *pools.first, *pools.middle, *pools.last))))
        tables = Tables.of([*sentences, *questions], vocab)
        ragged = [_dates(pools, vocab), *(Ragged.of([vocab.encode(words).tolist() for words in t]) for t in values)]
        first, middle, last = (vocab.encode(part) for part in (pools.first, pools.middle, pools.last))
        forms, phrases = _prose_forms(prose, vocab) if prose else (_forms(pools, naming, vocab), [])
        reader = Reader(forms, phrases, ragged, (first, middle, last), tables.mentions, vocab)
        joined, bases = Ragged.join(ragged)
        return cls(vocab, tables, len(sentences), (first, middle, last), joined, bases, reader)


def mentions(fullname: bool, reverse: int) -> np.ndarray:
    """How each sentence speaks of the person (6,), or (7,) for reverse6, whose last sentence tells the name."""
    if reverse == 0:
        return np.array([BY_NAME] + 5 * [BY_NAME if fullname else BY_PRONOUN])
    spoken = [BY_ROLE] + 5 * [BY_PRONOUN]
    if reverse == 6:
        return np.array([*spoken, BY_NAME])
    spoken[reverse] = BY_NAME
    return np.array(spoken)


def _form(words: Sequence[str], attribute: int, vocab: Vocab) -> Form:
    special = {**dict.fromkeys(PERSON, ANYBODY), VALUE: value_of(attribute)}
    return tuple(special[word] if word in special else vocab.index[word] for word in words)


def _forms(pools: Pools, naming: Sequence[tuple[str, ...]], vocab: Vocab) -> list[Form]:
    about = [_form(words, a, vocab) for a, found in enumerate(pools.templates) for words in found]
    return [*about, *(_form(words, 0, vocab) for words in naming)]


def _prose_forms(prose: Prose, vocab: Vocab) -> tuple[list[Form], list[list[Form]]]:
    def part(piece: str | tuple[int, int]) -> int:
        return _form((piece,), 0, vocab)[0] if isinstance(piece, str) else phrase_of(piece[0])

    forms = [tuple(part(piece) for piece in form) for found in prose.forms for form in found]
    phrases = [[_form(words, a, vocab) for a, found in enumerate(kind) for words in found] for kind in prose.phrases]
    return forms, phrases


def _entries(pools: Pools) -> tuple[Sequence[str], ...]:
    """The values of every attribute but the birth date; those of the employer's city by employer."""
    return pools.cities, pools.universities, pools.majors, pools.employers, pools.employer_cities


def _texts(entries: Sequence[str]) -> list[tuple[str, ...]]:
    return [tokenize(entry) for entry in entries]


def _date_words(pools: Pools) -> list[str]:
    years, months, days = pools.calendar
    numbers = [*range(1, days + 1), *range(YEAR, YEAR + years)]
    return [*MONTHS[:months], ",", *map(str, numbers)]


def _dates(pools: Pools, vocab: Vocab) -> Ragged:
    """Such as "May 7, 1931" for every date, day fastest, then month, then year."""
    years, months, days = pools.calendar
    words = (MONTHS[:months], [str(day + 1) for day in range(days)], [str(YEAR + year) for year in range(years)])
    month, day, year = (vocab.encode(part) for part in words)
    rows = np.empty((years, months, days, 4), np.int32)
    rows[..., 0], rows[..., 1] = month[:, None], day
    rows[..., 2], rows[..., 3] = vocab.index[","], year[:, None, None]
    return Ragged(rows.ravel(), np.arange(years * months * days + 1, dtype=np.int64) * 4)
