"""Layered context-free grammars (Physics of Language Models, Part 1, Figure 1).

Level 1 is the root, the last level holds the terminals, and every rule goes from one level to the next. Code counts
levels from 0; papers, messages and the documentation count them from 1.
"""

import difflib
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from synth.atomic_io import read_at_most
from synth.cfg import notation, validation
from synth.cfg.compiled import Compiled, compile_grammar
from synth.errors import UserError

FOLDER = Path(__file__).parent / "grammars"
NAMES = ("cfg3b", "cfg3i", "cfg3h", "cfg3g", "cfg3f", "cfg3e1", "cfg3e2", "cfg3j", "cfg3k")  # the papers'
BUNDLED = (*NAMES, "brackets")  # every grammar that is known by name

LARGEST = 2_000_000  # bytes of a file: the papers' largest grammar has 6,000

Rules = dict[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, eq=False)
class Grammar:
    """levels: the symbols of each level, root first, terminals last; rules: right-hand sides of each nonterminal;
    weights: their probabilities, equal ones when left out. Equal and hashed by content, whatever the name.

    Raises UserError when the grammar is not layered (see validation.py). Symbols that the root never reaches are kept,
    since the levels name them; `rooted_at(root)` drops them.
    """

    name: str
    levels: tuple[tuple[str, ...], ...]
    rules: Rules = field(repr=False)
    weights: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        levels = tuple(tuple(symbols) for symbols in self.levels)
        object.__setattr__(self, "levels", levels)
        listed = dict.fromkeys(symbol for symbols in levels[:-1] for symbol in symbols)
        for symbol in self.rules:
            if symbol not in listed:
                raise UserError(f"symbol {symbol} has rules but sits on no level above the last; add it to the levels")
        rules = {symbol: tuple(map(tuple, self.rules.get(symbol, ()))) for symbol in listed}
        validation.check_symbols(
            levels[0][0] if levels and levels[0] else "(none)", rules, levels[-1] if levels else ()
        )
        validation.check_levels(levels)
        validation.check_descent(self.level_of, rules)
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "weights", validation.checked_weights(rules, self.weights))

    @classmethod
    def build(
        cls,
        name: str,
        root: str,
        rules: Mapping[str, Sequence[Sequence[str]]],
        weights: Mapping[str, Sequence[float]] | None = None,
        terminals: Iterable[str] | None = None,
        keep_unreachable: bool = False,
    ) -> "Grammar":
        """The levels are found from the rules; symbols of a level are put in order of number, then of name.

        terminals: the symbols allowed to have no rules (default: all that have none).
        keep_unreachable: accept symbols that the root never reaches; otherwise they raise UserError, as likely slips.
        """
        if terminals is None:
            terminals = {child for rhs in rules.values() for one in rhs for child in one} - set(rules)
        terminals = set(terminals)
        validation.check_symbols(root, rules, terminals)
        validation.check_cycles(rules)
        if not keep_unreachable:
            validation.check_reachable(root, rules)
        found = validation.find_levels(root, rules, terminals)
        validation.check_descent(found, rules)
        levels: list[list[str]] = [[] for _ in range(max(found.values()) + 1)]
        for symbol, level in found.items():
            levels[level].append(symbol)
        return cls(name, tuple(tuple(sorted(s, key=_natural)) for s in levels), dict(rules), dict(weights or {}))  # type: ignore[arg-type]

    @staticmethod
    def from_text(text: str, name: str = "grammar", keep_unreachable: bool = False) -> "Grammar":
        """A grammar in nltk's notation; `name` is used in messages. Raises UserError with the line number."""
        found = notation.read(text, name)
        return Grammar.build(name, found.root, found.rules, found.weights, found.terminals, keep_unreachable)

    @staticmethod
    def from_nltk(grammar: object, name: str = "grammar", keep_unreachable: bool = False) -> "Grammar":
        """From an nltk CFG or PCFG object, or a string in nltk's notation."""
        from synth.cfg import nltk_format

        return nltk_format.from_nltk(grammar, name, keep_unreachable)

    @staticmethod
    def from_json(source: Mapping | str | Path, name: str | None = None) -> "Grammar":
        """From the JSON of the public PhysicsLM4 release: a path or the parsed object."""
        from synth.cfg import nltk_format

        return nltk_format.from_json(source, name)

    def to_nltk(self) -> object:
        """The same grammar as an nltk PCFG."""
        from synth.cfg import nltk_format

        return nltk_format.to_nltk(self)

    def to_text(self) -> str:
        """nltk's notation, with probabilities only where some symbol's rules are not equally probable."""
        return notation.write(self.rules, None if self.uniform else self.weights, self.terminals)

    def rooted_at(self, symbol: str) -> "Grammar":
        """The grammar of one symbol's own phrases: that symbol as the root, and only what it reaches."""
        if symbol not in self.rules:
            raise UserError(f"{symbol} is no nonterminal of {self.name}; choose a root among: {' '.join(self.rules)}")
        levels: list[tuple[str, ...]] = [(symbol,)]
        while levels[-1][0] in self.rules:
            below = {child for parent in levels[-1] for rhs in self.rules[parent] for child in rhs}
            levels.append(tuple(child for child in self.levels[self.level_of[symbol] + len(levels)] if child in below))
        kept = [parent for symbols in levels[:-1] for parent in symbols]
        name = self.name if symbol == self.root else f"{self.name}@{symbol}"
        return Grammar(name, tuple(levels), {s: self.rules[s] for s in kept}, {s: self.weights[s] for s in kept})

    def encode(self, sentence: Sequence[str]) -> np.ndarray:
        """Terminal numbers (T,) int32 of a sequence of terminals. Raises UserError naming a foreign one."""
        number = {terminal: index for index, terminal in enumerate(self.terminals)}
        for position, symbol in enumerate(sentence):
            if symbol not in number:
                raise UserError(
                    f"token {symbol!r} at position {position} is no terminal of {self.name}: {' '.join(self.terminals)}"
                )
        return np.array([number[symbol] for symbol in sentence], np.int32)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The terminals behind terminal numbers."""
        return [self.terminals[number] for number in numbers]

    @property
    def root(self) -> str:
        return self.levels[0][0]

    @property
    def terminals(self) -> tuple[str, ...]:
        return self.levels[-1]

    @property
    def depth(self) -> int:
        """Number of levels, root and terminals included: the papers' L."""
        return len(self.levels)

    @property
    def uniform(self) -> bool:
        """Whether each symbol's rules are equally probable."""
        return all(len(set(weights)) == 1 for weights in self.weights.values())

    @cached_property
    def level_of(self) -> dict[str, int]:
        return {symbol: level for level, symbols in enumerate(self.levels) for symbol in symbols}

    @cached_property
    def lengths(self) -> dict[str, tuple[int, int]]:
        """Least and greatest number of terminals below each symbol, exact for any size."""
        bounds = {terminal: (1, 1) for terminal in self.terminals}
        for symbol in reversed(self.rules):
            shortest = min(sum(bounds[child][0] for child in rhs) for rhs in self.rules[symbol])
            bounds[symbol] = shortest, max(sum(bounds[child][1] for child in rhs) for rhs in self.rules[symbol])
        return bounds

    @property
    def min_length(self) -> int:
        return self.lengths[self.root][0]

    @property
    def max_length(self) -> int:
        return self.lengths[self.root][1]

    @cached_property
    def expected_counts(self) -> dict[str, float]:
        """Expected number of occurrences of each symbol in a derivation."""
        counts = dict.fromkeys(self.level_of, 0.0) | {self.root: 1.0}
        for symbol, alternatives in self.rules.items():
            for rhs, weight in zip(alternatives, self.weights[symbol], strict=True):
                for child in rhs:
                    counts[child] += counts[symbol] * weight
        return counts

    @property
    def mean_length(self) -> float:
        """Expected length of a sentence, exact up to rounding."""
        return math.fsum(self.expected_counts[terminal] for terminal in self.terminals)

    @cached_property
    def compiled(self) -> Compiled:
        """The integer arrays that the sampler and the oracles run on."""
        return compile_grammar(self.levels, self.rules, self.weights)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of levels, rules and weights; the name does not count."""
        content = json.dumps([self.levels, list(self.rules.items()), list(self.weights.items())])
        return hashlib.sha256(content.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grammar) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def load(name_or_path: str | Path, root: str | None = None) -> Grammar:
    """A grammar by name (one of BUNDLED), or a file: nltk's notation, or .json of the public release.

    root: start from this symbol instead, see `Grammar.rooted_at`. Raises UserError on a name, file or root that fails.
    """
    if str(name_or_path) in BUNDLED:
        return _bundled(str(name_or_path), root)
    return _rooted(_load(name_or_path), root)


@cache
def _bundled(name: str, root: str | None) -> Grammar:
    # cfg3e1 was published with symbols that its root never reaches.
    grammar = Grammar.from_text((FOLDER / f"{name}.cfg").read_text(), name, keep_unreachable=True)
    return _rooted(grammar, root)


def _rooted(grammar: Grammar, root: str | None) -> Grammar:
    return grammar if root in (None, grammar.root) else grammar.rooted_at(str(root))


def _load(name_or_path: str | Path) -> Grammar:
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        close = difflib.get_close_matches(str(path).lower(), BUNDLED, 1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown grammar {path}; {guess}known: {' '.join(BUNDLED)}, or a path to .cfg, .txt or .json")
    if path.suffix == ".json":
        return Grammar.from_json(path)
    return Grammar.from_text(read_file(path), path.name)


def read_file(path: Path) -> str:
    """The text of a file. Raises UserError when it cannot be read."""
    try:
        return io.TextIOWrapper(io.BytesIO(read_at_most(path, LARGEST)), "utf-8").read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read the grammar file {path}: {reason}; check the path") from None


def _natural(symbol: str) -> tuple[bool, int, str]:
    return (False, int(symbol), symbol) if symbol.isdecimal() else (True, 0, symbol)
