"""bioR without a large language model: a rewriting grammar in place of Part 3.1 (arXiv 2309.14316, section 2.1).

A biography is an order of the attributes, split into sentences about one to three of them, a template for each sentence
and a phrase for each attribute; templates and phrases are in synth/bio/data/prose.cfg.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from math import factorial, log
from pathlib import Path
from typing import Any

import numpy as np

from synth.bio.tables import BY_NAME, BY_PRONOUN
from synth.bio.value_lists import FOLDER, PERSON_SLOTS, VALUE_SLOT
from synth.cfg import notation
from synth.errors import UserError
from synth.random.rng import bounded_integers, random_uint64

KINDS = ("VP", "POSS", "PART", "CAP")
ATTRIBUTE_NAMES = ("date", "home", "school", "major", "firm", "town")
SENTENCE_SYMBOLS = ("One", "Two", "Three")
SENTENCE_SPLITS = tuple(cut for n in range(1, 7) for cut in product((1, 2, 3), repeat=n) if sum(cut) == 6)
SPLIT_SIZES = np.array([(*cut, *(6 - len(cut)) * (0,)) for cut in SENTENCE_SPLITS])
Words = tuple[str, ...]
Rules = dict[str, list[Words]]
PhraseSlot = tuple[int, int]  # the kind of a phrase, and which of its sentence's attributes (from 0) it is about
Template = tuple[str | PhraseSlot, ...]


@dataclass(frozen=True)
class ProseGrammar:
    """templates[k]: sentences about k + 1 attributes, of words, person slots and phrase slots;
    phrases[kind][attribute]: words with {V}."""

    templates: tuple[tuple[Template, ...], ...]
    phrases: tuple[tuple[tuple[Words, ...], ...], ...]

    @cached_property
    def openings(self) -> tuple[tuple[Template, ...], ...]:
        """Templates that can begin a biography: the person comes before every value."""
        return tuple(tuple(filter(_person_comes_first, group)) for group in self.templates)

    @cached_property
    def followers(self) -> tuple[tuple[Template, ...], ...]:
        """Templates that can come later: not those that would give a pronoun a clause ("she, who")."""
        return tuple(
            tuple(form for form in group if not (_person_comes_first(form) and _takes_clause(form)))
            for group in self.templates
        )

    @cached_property
    def pieces(self) -> tuple[Words, ...]:
        """All parts of documents: the empty piece, single words and slots, then phrases by kind and attribute."""
        parts = (part for group in self.templates for form in group for part in form)
        fixed = dict.fromkeys((part,) for part in parts if isinstance(part, str))
        return ((), *fixed, *(words for kind in self.phrases for group in kind for words in group))

    @cached_property
    def arrays(self) -> "ProseArrays":
        """The grammar as arrays."""
        return ProseArrays.from_grammar(self)

    def truncate(self, max_phrases: int) -> "ProseGrammar":
        """The grammar with at most max_phrases phrases of each kind per attribute."""
        phrases = tuple(tuple(group[:max_phrases] for group in kind) for kind in self.phrases)
        return ProseGrammar(self.templates, phrases)

    @cached_property
    def renderings(self) -> int:
        """A lower bound on the number of texts per person, from the attribute with the fewest phrases."""
        poorest = [min(map(len, kind)) for kind in self.phrases]

        def ways(forms: tuple[Template, ...]) -> int:
            return sum(int(np.prod([poorest[p[0]] for p in form if not isinstance(p, str)])) for form in forms)

        total = 0
        for cut in SENTENCE_SPLITS:
            rest = [ways(self.followers[size - 1]) for size in cut[1:]]
            total += ways(self.openings[cut[0] - 1]) * int(np.prod(rest, dtype=object))
        return factorial(6) * total


@dataclass(frozen=True)
class ProseArrays:
    """A ProseGrammar as arrays.

    templates (F, E): piece at each position, 0 after the end, or phrase slot as -1 - 3 kind - position; starts, counts
    (2, 3): first row and number of the openings (row 0) and followers (row 1) about one, two and three attributes;
    phrase_starts, phrase_counts (kinds, 6): the same for phrases among the pieces; people (P,): whether a piece is a
    person slot.
    """

    templates: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    phrase_starts: np.ndarray
    phrase_counts: np.ndarray
    people: np.ndarray

    @classmethod
    def from_grammar(cls, prose: ProseGrammar) -> "ProseArrays":
        """The arrays of a grammar."""
        index = {piece[0]: i for i, piece in enumerate(prose.pieces) if len(piece) == 1 and piece[0] != VALUE_SLOT}
        groups = (*prose.openings, *prose.followers)
        rows = [form for group in groups for form in group]
        forms = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for i, form in enumerate(rows):
            forms[i, : len(form)] = [index[p] if isinstance(p, str) else -1 - 3 * p[0] - p[1] for p in form]
        sizes = np.array([len(group) for group in groups])
        counts = np.array([[len(group) for group in kind] for kind in prose.phrases])
        first = len(prose.pieces) - counts.sum()
        phrase_starts = first + np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape)
        people = np.array([len(piece) == 1 and piece[0] in PERSON_SLOTS for piece in prose.pieces])
        starts = np.cumsum(sizes) - sizes
        return cls(forms, starts.reshape(2, 3), sizes.reshape(2, 3), phrase_starts, counts, people)


def sample_prose_wording(
    prose: ProseGrammar, stream: tuple[Any, ...], entries: np.ndarray, items: np.ndarray, fullname: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pieces of n biographies, their attributes and kinds of mention, each (n, m), and the wording's nats (n,)."""
    from synth.bio.numba_writer import compose_prose

    layout, n = prose.arrays, len(items)
    random = random_uint64((*stream, "prose"), entries, items, 19)
    order = np.argsort(random[:, :6], axis=1)
    sizes = SPLIT_SIZES[bounded_integers(random[:, 6], len(SENTENCE_SPLITS))]
    width = 6 * layout.templates.shape[1]
    pieces, about, mentions = (np.zeros((n, width), np.int64) for _ in range(3))
    nats = np.full(n, log(factorial(6)) + log(len(SENTENCE_SPLITS)))
    later = BY_NAME if fullname else BY_PRONOUN
    compose_prose(
        random[:, 7:], order, sizes, layout.templates, layout.starts, layout.counts, layout.phrase_starts,
        layout.phrase_counts, layout.people, later, pieces, about, mentions, nats,
    )  # fmt: skip
    return pieces, about, mentions, nats


@cache
def load_prose_grammar(folder: str | None = None) -> ProseGrammar:
    """The grammar in a folder's prose.cfg (None: the built-in one). Raises UserError if it is malformed."""
    path = (FOLDER if folder is None else Path(folder)) / "prose.cfg"
    try:
        parsed = notation.read(path.read_text(encoding="utf-8-sig"), "prose.cfg")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the grammar {path}: {str(error).splitlines()[0]}") from None
    rules = parsed.rules
    if both := parsed.terminals & rules.keys():
        raise UserError(f"{path}: {min(both)!r} is a word and has rules; write another word or rename the symbol")
    missing = [name for name in (*SENTENCE_SYMBOLS, *_phrase_names(KINDS[:3])) if name not in rules]
    if missing:
        raise UserError(f"{path}: no rule for {missing[0]}; write {missing[0]} -> ...")
    kinds = [tuple(_phrases(path, name, rules) for name in _phrase_names((kind,))) for kind in KINDS[:3]]
    capital = tuple(tuple((words[0].capitalize(), *words[1:]) for words in group) for group in kinds[2])
    forms = tuple(tuple(_form(path, name, words) for words in _expand(name, rules)) for name in SENTENCE_SYMBOLS)
    prose = ProseGrammar(forms, (*kinds, capital))
    if not all((*prose.openings, *prose.followers)):
        raise UserError(f"{path}: One, Two and Three each need a sentence with the person first and no comma after")
    return prose


def _phrase_names(kinds: tuple[str, ...]) -> list[str]:
    return [f"{kind}_{name}" for kind in kinds for name in ATTRIBUTE_NAMES]


def _expand(symbol: str, rules: Rules) -> Iterator[Words]:
    """Every string of a symbol; one without rules (a word, a phrase slot) stands for itself."""
    if symbol not in rules:
        yield (symbol,)
        return
    for right in rules[symbol]:
        for chosen in product(*(list(_expand(part, rules)) for part in right)):
            yield tuple(word for part in chosen for word in part)


def _phrases(path: Path, name: str, rules: Rules) -> tuple[Words, ...]:
    phrases = tuple(tuple(VALUE_SLOT if word == "V" else word for word in words) for words in _expand(name, rules))
    bad = next((words for words in phrases if words.count(VALUE_SLOT) != 1 or words[0] == VALUE_SLOT), None)
    if bad:
        raise UserError(f"{path}: {name} makes {' '.join(bad)!r}; a phrase has one 'V', and a word before it")
    return phrases


def _form(path: Path, name: str, words: Words) -> Template:
    form: list[str | PhraseSlot] = []
    for word in words:
        kind, _, position = word.partition("_")
        form.append((KINDS.index(kind), int(position) - 1) if kind in KINDS and position in ("1", "2", "3") else word)
    positions = [part[1] for part in form if not isinstance(part, str)]
    if sorted(positions) != list(range(SENTENCE_SYMBOLS.index(name) + 1)):
        raise UserError(f"{path}: {name} makes {' '.join(words)!r}; it must use each of its attributes once")
    if form.count(".") != 1 or form[-1] != ".":
        raise UserError(f"{path}: {' '.join(words)!r} must have its only '.' at the end")
    return tuple(form)


def _person_comes_first(form: Template) -> bool:
    """Whether the person comes before every value."""
    return isinstance(next(part for part in form if part in PERSON_SLOTS or not isinstance(part, str)), str)


def _takes_clause(form: Template) -> bool:
    """Whether a comma follows the person."""
    return any(part in PERSON_SLOTS and after == "," for part, after in zip(form, form[1:], strict=False))
