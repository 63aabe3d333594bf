"""Vocabulary, sentence tables and parser of biographies over given value lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synth.bio.manipulation import question_words
from synth.bio.parser import PERSON_SLOT, BiographyParser, Pattern, phrase_slot, value_slot
from synth.bio.prose_grammar import ProseGrammar
from synth.bio.tables import BY_NAME, BY_PRONOUN, BY_ROLE, Ragged, SentenceTables, fixed_words, mention_words
from synth.bio.value_lists import MONTHS, PERSON_SLOTS, VALUE_SLOT, ValueLists, tokenize
from synth.vocab import Vocab

NAME_SENTENCE = ("The", "person", "'s", "name", "is", "{o}", ".")  # the last sentence of reverse6
ANSWER_TEMPLATE = ("Answer", ":", "{V}", ".")
FIRST_YEAR = 1900


@dataclass(frozen=True)
class Lexicon:
    """Token tables for writing documents about people, and the parser for reading them.

    tables: templates by attribute, then the naming sentence (or the pieces of prose), and from row `questions` on the
    questions with their answers; names: ids of the first, middle and last names; values: texts of all values, those of
    attribute a from row value_offsets[a].
    """

    vocab: Vocab
    tables: SentenceTables
    questions: int
    names: tuple[np.ndarray, np.ndarray, np.ndarray]
    values: Ragged
    value_offsets: np.ndarray
    parser: BiographyParser

    @classmethod
    @lru_cache(maxsize=16)
    def build(
        cls, value_lists: ValueLists, fullname: bool, reverse: int, prose: ProseGrammar | None, reasoning: bool = False
    ) -> "Lexicon":
        """The lexicon of value lists for one style; other arguments as the fields of BioS. Cached."""
        naming = [NAME_SENTENCE] if reverse == 6 else []
        templates = [*(words for group in value_lists.templates for words in group), *naming]
        sentences = list(prose.pieces) if prose else templates
        questions = [(*words, *ANSWER_TEMPLATE) for group in value_lists.questions for words in group]
        values = [[tokenize(entry) for entry in entries] for entries in _entries(value_lists)]
        heads = mention_words(sentences, pronouns=not fullname, roles=reverse > 0)
        owned = mention_words(questions, pronouns=False, roles=False)
        symbols = [*fixed_words([*sentences, *questions]), *heads, *owned, *_date_words(value_lists)]
        symbols += [word for texts in values for words in texts for word in words]
        symbols += question_words(value_lists) if reasoning else []
        vocab = Vocab(tuple(dict.fromkeys((*symbols, *value_lists.first, *value_lists.middle, *value_lists.last))))
        tables = SentenceTables.from_sentences([*sentences, *questions], vocab)
        ragged = [
            _dates(value_lists, vocab),
            *(Ragged.from_rows([vocab.encode(words).tolist() for words in t]) for t in values),
        ]
        first, middle, last = (vocab.encode(part) for part in (value_lists.first, value_lists.middle, value_lists.last))
        patterns, phrases = _prose_patterns(prose, vocab) if prose else (_patterns(value_lists, naming, vocab), [])
        parser = BiographyParser(patterns, phrases, ragged, (first, middle, last), tables.mentions, vocab)
        joined, bases = Ragged.concatenate(ragged)
        return cls(vocab, tables, len(sentences), (first, middle, last), joined, bases, parser)


def mention_kinds(fullname: bool, reverse: int) -> np.ndarray:
    """How each sentence mentions the person (6,) int; (7,) for reverse6, whose last sentence states the name."""
    if reverse == 0:
        return np.array([BY_NAME] + 5 * [BY_NAME if fullname else BY_PRONOUN])
    kinds = [BY_ROLE] + 5 * [BY_PRONOUN]
    if reverse == 6:
        return np.array([*kinds, BY_NAME])
    kinds[reverse] = BY_NAME
    return np.array(kinds)


def _pattern(words: Sequence[str], attribute: int, vocab: Vocab) -> Pattern:
    special = {**dict.fromkeys(PERSON_SLOTS, PERSON_SLOT), VALUE_SLOT: value_slot(attribute)}
    return tuple(special[word] if word in special else vocab.index[word] for word in words)


def _patterns(value_lists: ValueLists, naming: Sequence[tuple[str, ...]], vocab: Vocab) -> list[Pattern]:
    about = [_pattern(words, a, vocab) for a, group in enumerate(value_lists.templates) for words in group]
    return [*about, *(_pattern(words, 0, vocab) for words in naming)]


def _prose_patterns(prose: ProseGrammar, vocab: Vocab) -> tuple[list[Pattern], list[list[Pattern]]]:
    def part(piece: str | tuple[int, int]) -> int:
        return _pattern((piece,), 0, vocab)[0] if isinstance(piece, str) else phrase_slot(piece[0])

    patterns = [tuple(part(piece) for piece in form) for group in prose.templates for form in group]
    phrases = [[_pattern(words, a, vocab) for a, group in enumerate(kind) for words in group] for kind in prose.phrases]
    return patterns, phrases


def _entries(lists: ValueLists) -> tuple[Sequence[str], ...]:
    """Values of each attribute except the birth date; those of the employer's city are listed by employer."""
    return lists.cities, lists.universities, lists.majors, lists.employers, lists.employer_cities


def _date_words(value_lists: ValueLists) -> list[str]:
    years, months, days = value_lists.calendar
    numbers = [*range(1, days + 1), *range(FIRST_YEAR, FIRST_YEAR + years)]
    return [*MONTHS[:months], ",", *map(str, numbers)]


def _dates(value_lists: ValueLists, vocab: Vocab) -> Ragged:
    """Ids of every date, such as "May 7, 1931"; the day varies fastest, then the month."""
    years, months, days = value_lists.calendar
    words = (MONTHS[:months], [str(day + 1) for day in range(days)], [str(FIRST_YEAR + year) for year in range(years)])
    month, day, year = (vocab.encode(part) for part in words)
    rows = np.empty((years, months, days, 4), np.int32)
    rows[..., 0], rows[..., 1] = month[:, None], day
    rows[..., 2], rows[..., 3] = vocab.index[","], year[:, None, None]
    return Ragged(rows.ravel(), np.arange(years * months * days + 1, dtype=np.int64) * 4)
