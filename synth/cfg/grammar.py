"""Layered context-free grammars (Physics of Language Models, Part 1, Figure 1).

Level 1 is the root, the last level holds the terminals, and every rule goes from one level to the next. Code counts
levels from 0; papers, messages and the documentation count them from 1.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from synth.cfg import notation, validation
from synth.cfg.compiled import Compiled, compile_grammar
from synth.errors import UserError

Rules = dict[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, eq=False)
class Grammar:
    """A layered probabilistic context-free grammar; equality and hash ignore the name.

    levels: symbols of each level, root first, terminals last; rules: right-hand sides by nonterminal; weights: their
    probabilities, by default equal. Raises UserError unless the grammar is layered (see validation.py). Unreachable
    symbols are kept; `with_root(root)` drops them.
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
        object.__setattr__(self, "weights", validation.normalize_weights(rules, self.weights))

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
        """A grammar whose levels follow from its rules; symbols of a level are sorted by number, then by name.

        terminals: symbols that may lack rules (default: all that do). Unreachable symbols raise UserError, as probable
        mistakes, unless keep_unreachable is set.
        """
        if terminals is None:
            terminals = {child for rhs in rules.values() for one in rhs for child in one} - set(rules)
        terminals = set(terminals)
        validation.check_symbols(root, rules, terminals)
        validation.check_cycles(rules)
        if not keep_unreachable:
            validation.check_reachable(root, rules)
        level_of = validation.find_levels(root, rules, terminals)
        validation.check_descent(level_of, rules)
        levels: list[list[str]] = [[] for _ in range(max(level_of.values()) + 1)]
        for symbol, level in level_of.items():
            levels[level].append(symbol)
        return cls(name, tuple(tuple(sorted(s, key=_sort_key)) for s in levels), dict(rules), dict(weights or {}))  # type: ignore[arg-type]

    @staticmethod
    def from_text(text: str, name: str = "grammar", keep_unreachable: bool = False) -> "Grammar":
        """The grammar of a text in nltk notation; errors (UserError) have `name` and the line number."""
        parsed = notation.read(text, name)
        return Grammar.build(name, parsed.root, parsed.rules, parsed.weights, parsed.terminals, keep_unreachable)

    def to_text(self) -> str:
        """The grammar in nltk notation, with probabilities unless it is uniform."""
        return notation.write(self.rules, None if self.uniform else self.weights, self.terminals)

    def with_root(self, symbol: str) -> "Grammar":
        """The subgrammar that this nonterminal reaches, with it as root. Raises UserError for any other symbol."""
        if symbol not in self.rules:
            raise UserError(f"{symbol} is no nonterminal of {self.name}; choose a root among: {' '.join(self.rules)}")
        levels: list[tuple[str, ...]] = [(symbol,)]
        while levels[-1][0] in self.rules:
            below = {child for parent in levels[-1] for rhs in self.rules[parent] for child in rhs}
            levels.append(tuple(child for child in self.levels[self.level_of[symbol] + len(levels)] if child in below))
        nonterminals = [parent for symbols in levels[:-1] for parent in symbols]
        name = self.name if symbol == self.root else f"{self.name}@{symbol}"
        rules = {parent: self.rules[parent] for parent in nonterminals}
        return Grammar(name, tuple(levels), rules, {parent: self.weights[parent] for parent in nonterminals})

    def encode(self, sentence: Sequence[str]) -> np.ndarray:
        """Terminal numbers (T,) int32 from 0, in the order of `terminals`. Raises UserError for an unknown terminal."""
        number = {terminal: index for index, terminal in enumerate(self.terminals)}
        for position, symbol in enumerate(sentence):
            if symbol not in number:
                raise UserError(
                    f"token {symbol!r} at position {position} is no terminal of {self.name}: {' '.join(self.terminals)}"
                )
        return np.array([number[symbol] for symbol in sentence], np.int32)

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Terminals by their numbers."""
        return [self.terminals[number] for number in numbers]

    @property
    def root(self) -> str:
        """The start symbol."""
        return self.levels[0][0]

    @property
    def terminals(self) -> tuple[str, ...]:
        """The symbols of the last level, in the order of their numbers."""
        return self.levels[-1]

    @property
    def depth(self) -> int:
        """Number of levels, root and terminals included (L in the papers)."""
        return len(self.levels)

    @property
    def uniform(self) -> bool:
        """Whether the rules of every symbol are equally probable."""
        return all(len(set(weights)) == 1 for weights in self.weights.values())

    @cached_property
    def level_of(self) -> dict[str, int]:
        """Level of each symbol, root 0."""
        return {symbol: level for level, symbols in enumerate(self.levels) for symbol in symbols}

    @cached_property
    def lengths(self) -> dict[str, tuple[int, int]]:
        """Least and greatest number of terminals that each symbol derives."""
        bounds = {terminal: (1, 1) for terminal in self.terminals}
        for symbol in reversed(self.rules):
            shortest = min(sum(bounds[child][0] for child in rhs) for rhs in self.rules[symbol])
            bounds[symbol] = shortest, max(sum(bounds[child][1] for child in rhs) for rhs in self.rules[symbol])
        return bounds

    @property
    def min_length(self) -> int:
        """Terminals in the shortest sentence."""
        return self.lengths[self.root][0]

    @property
    def max_length(self) -> int:
        """Terminals in the longest sentence."""
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
        """Expected number of terminals in a sentence."""
        return math.fsum(self.expected_counts[terminal] for terminal in self.terminals)

    @cached_property
    def compiled(self) -> Compiled:
        """The integer arrays for the sampler and the oracles."""
        return compile_grammar(self.levels, self.rules, self.weights)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of levels, rules and weights."""
        content = json.dumps([self.levels, list(self.rules.items()), list(self.weights.items())])
        return hashlib.sha256(content.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grammar) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def _sort_key(symbol: str) -> tuple[bool, int, str]:
    return (False, int(symbol), symbol) if symbol.isdecimal() else (True, 0, symbol)
