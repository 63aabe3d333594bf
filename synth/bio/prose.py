"""bioR without a large language model: a rewriting grammar that merges, subordinates and reorders the six facts.

Stands in for the rewritten biographies of Part 3.1 (arXiv 2309.14316, section 2.1). A biography is an order of the
attributes, a cut of that order into sentences about one to three of them, a form for each sentence and a phrase for
each attribute; synth/bio/data/prose.cfg holds forms and phrases.
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
from synth.bio.value_lists import FOLDER, PERSON, VALUE
from synth.errors import UserError
from synth.random.rng import below, words

KINDS = ("VP", "POSS", "PART", "CAP")
ATTRIBUTE_NAMES = ("date", "home", "school", "major", "firm", "town")
SENTENCES = ("One", "Two", "Three")
CUTS = tuple(cut for n in range(1, 7) for cut in product((1, 2, 3), repeat=n) if sum(cut) == 6)
CUT_SIZES = np.array([(*cut, *(6 - len(cut)) * (0,)) for cut in CUTS])
Words = tuple[str, ...]
Hole = tuple[int, int]  # the kind of a phrase, and which of its sentence's attributes (from 0) it is about
Form = tuple[str | Hole, ...]


@dataclass(frozen=True)
class Prose:
    """forms[k]: the sentences about k + 1 attributes, as words, person slots and holes; phrases[kind][attribute]: words
    with {V}. openings[k]: the forms that may begin a biography, since the person comes before every value;
    followers[k]: those that may come later, since no pronoun takes a clause ("she, who"), or as they must."""

    forms: tuple[tuple[Form, ...], ...]
    phrases: tuple[tuple[tuple[Words, ...], ...], ...]

    @cached_property
    def openings(self) -> tuple[tuple[Form, ...], ...]:
        return tuple(tuple(form for form in found if _opens(form)) for found in self.forms)

    @cached_property
    def followers(self) -> tuple[tuple[Form, ...], ...]:
        return tuple(
            tuple(form for form in found if not (_opens(form) and _takes_clause(form))) for found in self.forms
        )

    @cached_property
    def pieces(self) -> tuple[Words, ...]:
        """Everything a document is put together from: nothing, single words and slots, then phrases by kind and
        attribute."""
        fixed = dict.fromkeys(
            (part,) for found in self.forms for form in found for part in form if isinstance(part, str)
        )
        return ((), *fixed, *(words for kind in self.phrases for found in kind for words in found))

    @cached_property
    def layout(self) -> "Layout":
        return Layout.of(self)

    def cut(self, most: int) -> "Prose":
        """At most so many phrases of each kind an attribute."""
        return Prose(self.forms, tuple(tuple(found[:most] for found in kind) for kind in self.phrases))

    @cached_property
    def renderings(self) -> int:
        """At least so many texts a person: every attribute is credited with the phrases of the poorest."""
        poorest = [min(map(len, kind)) for kind in self.phrases]

        def ways(forms: tuple[Form, ...]) -> int:
            return sum(int(np.prod([poorest[p[0]] for p in form if not isinstance(p, str)])) for form in forms)

        total = 0
        for cut in CUTS:
            rest = [ways(self.followers[size - 1]) for size in cut[1:]]
            total += ways(self.openings[cut[0] - 1]) * int(np.prod(rest, dtype=object))
        return factorial(6) * total


@dataclass(frozen=True)
class Layout:
    """Prose as arrays. forms (F, E): the piece in each place of a form, 0 where it is shorter, or a hole as
    -1 - 3 kind - position. starts, counts (2, 3): where the openings (row 0) and followers (row 1) about one, two,
    three attributes begin and how many there are. phrase_starts, phrase_counts (kinds, 6): likewise the phrases among
    the pieces. people (P,): which pieces are person slots."""

    forms: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    phrase_starts: np.ndarray
    phrase_counts: np.ndarray
    people: np.ndarray

    @classmethod
    def of(cls, prose: Prose) -> "Layout":
        index = {piece[0]: i for i, piece in enumerate(prose.pieces) if len(piece) == 1 and piece[0] != VALUE}
        groups = (*prose.openings, *prose.followers)
        rows = [form for found in groups for form in found]
        forms = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for i, form in enumerate(rows):
            forms[i, : len(form)] = [index[p] if isinstance(p, str) else -1 - 3 * p[0] - p[1] for p in form]
        sizes = np.array([len(found) for found in groups])
        counts = np.array([[len(found) for found in kind] for kind in prose.phrases])
        first = len(prose.pieces) - counts.sum()
        phrase_starts = first + np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape)
        people = np.array([len(piece) == 1 and piece[0] in PERSON for piece in prose.pieces])
        starts = np.cumsum(sizes) - sizes
        return cls(forms, starts.reshape(2, 3), sizes.reshape(2, 3), phrase_starts, counts, people)


def plan(
    prose: Prose, stream: tuple[Any, ...], entries: np.ndarray, items: np.ndarray, fullname: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The pieces (n, m) of n biographies, the attribute (n, m) each is about, how it speaks of the person (n, m), and
    the nats (n,) of the choices made."""
    from synth.bio.numba_writer import compose

    layout, n = prose.layout, len(items)
    random = words((*stream, "prose"), entries, items, 19)
    order = np.argsort(random[:, :6], axis=1)
    sizes = CUT_SIZES[below(random[:, 6], len(CUTS))]
    width = 6 * layout.forms.shape[1]
    pieces, about, spoken = (np.zeros((n, width), np.int64) for _ in range(3))
    nats = np.full(n, log(factorial(6)) + log(len(CUTS)))
    later = BY_NAME if fullname else BY_PRONOUN
    compose(
        random[:, 7:], order, sizes, layout.forms, layout.starts, layout.counts, layout.phrase_starts,
        layout.phrase_counts, layout.people, later, pieces, about, spoken, nats,
    )  # fmt: skip
    return pieces, about, spoken, nats


@cache
def load(folder: str | None = None) -> Prose:
    """The grammar of a folder (the built-in one if None). Raises UserError on what is not such a grammar."""
    from nltk import CFG

    path = (FOLDER if folder is None else Path(folder)) / "prose.cfg"
    try:
        rules: dict[str, list[tuple[Any, ...]]] = {}
        for rule in CFG.fromstring(path.read_text(encoding="utf-8")).productions():
            rules.setdefault(str(rule.lhs()), []).append(rule.rhs())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the grammar {path}: {str(error).splitlines()[0]}") from None
    missing = [name for name in (*SENTENCES, *_phrase_names(KINDS[:3])) if name not in rules]
    if missing:
        raise UserError(f"{path}: no rule for {missing[0]}; write {missing[0]} -> ...")
    kinds = [tuple(_phrases(path, name, rules) for name in _phrase_names((kind,))) for kind in KINDS[:3]]
    capital = tuple(tuple((words[0].capitalize(), *words[1:]) for words in found) for found in kinds[2])
    forms = tuple(tuple(_form(path, name, words) for words in _expand(name, rules)) for name in SENTENCES)
    prose = Prose(forms, (*kinds, capital))
    if not all((*prose.openings, *prose.followers)):
        raise UserError(f"{path}: One, Two and Three each need a sentence with the person first and no comma after")
    return prose


def _phrase_names(kinds: tuple[str, ...]) -> list[str]:
    return [f"{kind}_{name}" for kind in kinds for name in ATTRIBUTE_NAMES]


def _expand(symbol: str, rules: dict[str, list[tuple[Any, ...]]]) -> Iterator[Words]:
    """Every string of a symbol; symbols without rules, the holes, stand for themselves."""
    if symbol not in rules:
        yield (symbol,)
        return
    for right in rules[symbol]:
        options = [[(part,)] if isinstance(part, str) else list(_expand(str(part), rules)) for part in right]
        for chosen in product(*options):
            yield tuple(word for part in chosen for word in part)


def _phrases(path: Path, name: str, rules: dict[str, list[tuple[Any, ...]]]) -> tuple[Words, ...]:
    found = tuple(tuple(VALUE if word == "V" else word for word in words) for words in _expand(name, rules))
    bad = next((words for words in found if words.count(VALUE) != 1 or words[0] == VALUE), None)
    if bad:
        raise UserError(f"{path}: {name} makes {' '.join(bad)!r}; a phrase has one 'V', and a word before it")
    return found


def _form(path: Path, name: str, words: Words) -> Form:
    form: list[str | Hole] = []
    for word in words:
        kind, _, position = word.partition("_")
        form.append((KINDS.index(kind), int(position) - 1) if kind in KINDS and position in ("1", "2", "3") else word)
    positions = [part[1] for part in form if not isinstance(part, str)]
    if sorted(positions) != list(range(SENTENCES.index(name) + 1)):
        raise UserError(f"{path}: {name} makes {' '.join(words)!r}; it must use each of its attributes once")
    if form.count(".") != 1 or form[-1] != ".":
        raise UserError(f"{path}: {' '.join(words)!r} must have its only '.' at the end")
    return tuple(form)


def _opens(form: Form) -> bool:
    """Whether the person comes before every value."""
    return isinstance(next(part for part in form if part in PERSON or not isinstance(part, str)), str)


def _takes_clause(form: Form) -> bool:
    """Whether a comma follows the person."""
    return any(part in PERSON and after == "," for part, after in zip(form, form[1:], strict=False))
