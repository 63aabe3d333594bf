"""Random grammars under the papers' constraints (Physics of Language Models, Part 1, Figure 1; Part 4.1, Lano)."""

import math
from collections import Counter
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from synth.cfg.grammar import Grammar
from synth.errors import UserError

MAX_TRIES = 1000


@dataclass(frozen=True)
class RandomGrammar:
    """Distribution of random grammars. Raises UserError if no grammar satisfies the settings.

    level_sizes: symbols per level, root (1) first, terminals last; degree: possible numbers of rules of a nonterminal;
    lengths: possible lengths of a right-hand side; distinct: no symbol twice in a right-hand side (as in cfg3b only).
    Right-hand sides of a level are all different, and every symbol is used.
    """

    level_sizes: tuple[int, ...] = (1, 3, 3, 3, 3, 3, 3)
    degree: tuple[int, ...] = (2,)
    lengths: tuple[int, ...] = (2, 3)
    distinct: bool = False

    def __post_init__(self) -> None:
        sizes = self.level_sizes
        for name in ("level_sizes", "degree", "lengths"):
            _check_whole(name, getattr(self, name))
        if len(sizes) < 2 or sizes[0] != 1 or min(sizes) < 1:
            raise UserError(f"level_sizes {sizes} must begin with the one root and have two levels or more, none empty")
        for name, choices in (("degree", self.degree), ("lengths", self.lengths)):
            if not choices or min(choices) < 1:
                raise UserError(f"{name} {choices} must list whole numbers of at least 1")
        for level, (size, below) in enumerate(zip(sizes, sizes[1:], strict=False), 1):
            self._check(level, size, below)

    def usable(self, below: int) -> list[int]:
        """The lengths that a right-hand side can have if the next level has `below` symbols."""
        return [length for length in self.lengths if length <= below or not self.distinct]

    def _check(self, level: int, size: int, below: int) -> None:
        lengths = set(self.usable(below))
        if not lengths:
            raise UserError(
                f"level {level + 1} has {below} symbols, too few for {min(self.lengths)} distinct ones in a rule; "
                "enlarge it, allow shorter lengths or set distinct=False"
            )
        room = sum(_arrangements(below, length, self.distinct) for length in lengths)
        if room < size * min(self.degree):
            raise UserError(
                f"level {level} needs {size * min(self.degree)} different right-hand sides but {below} symbols make "
                f"only {room}; enlarge level {level + 1} or lower the degree"
            )
        most = size * max(self.degree) * max(lengths)
        if most < below:
            raise UserError(
                f"the rules of level {level} have room for {most} symbols but level {level + 1} has {below}; "
                "raise the degree or the lengths"
            )


def _check_whole(name: str, values: Any) -> None:
    listed = values if isinstance(values, (tuple, list)) else [None]
    if not all(isinstance(value, Integral) and not isinstance(value, bool) for value in listed):
        raise UserError(f"{name}={values!r} must be a tuple of whole numbers, such as (2, 3)")


def _arrangements(symbols: int, length: int, distinct: bool) -> int:
    return math.perm(symbols, length) if distinct else symbols**length


def random_grammar(settings: RandomGrammar = RandomGrammar(), seed: int = 0) -> Grammar:  # noqa: B008
    """The random grammar of these settings and this seed.

    Symbols are named as in the PhysicsLM4 release: terminals from 1, three unused numbers, then nonterminals from the
    bottom level up. Raises UserError if no rules were found in MAX_TRIES draws.
    """
    rng = np.random.default_rng(seed)
    levels = _names(settings.level_sizes)
    rules = {}
    for level, (parents, below) in enumerate(zip(levels, levels[1:], strict=False), 1):
        for symbol, alternatives in zip(parents, _level(settings, level, len(below), rng), strict=True):
            rules[symbol] = tuple(tuple(below[child] for child in rhs) for rhs in alternatives)
    return Grammar(f"random{seed}", levels, rules)


def _names(sizes: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    firsts = np.cumsum([1, sizes[-1] + 3, *sizes[-2:0:-1]])
    return tuple(tuple(str(first + j) for j in range(size)) for first, size in zip(firsts[::-1], sizes, strict=True))


def _level(settings: RandomGrammar, level: int, below: int, rng: np.random.Generator) -> list[list[tuple[int, ...]]]:
    """Right-hand sides of each nonterminal of a level (counted from 1), over symbols 0 .. below - 1."""
    for _ in range(MAX_TRIES):
        degrees = rng.choice(settings.degree, settings.level_sizes[level - 1])
        distinct = _distinct_rules(settings, int(degrees.sum()), below, rng)
        if distinct is not None and sum(map(len, distinct)) >= below:
            rules = iter(_use_all(distinct, below, rng))
            return [[next(rules) for _ in range(degree)] for degree in degrees]
    raise UserError(
        f"no rules of level {level} with these settings in {MAX_TRIES} draws; allow more lengths or degrees"
    )


def _distinct_rules(
    settings: RandomGrammar, count: int, below: int, rng: np.random.Generator
) -> list[tuple[int, ...]] | None:
    """`count` different right-hand sides, or None if the tries run out (if nearly all possible ones are needed)."""
    lengths = settings.usable(below)
    rules: dict[tuple[int, ...], None] = {}
    for _ in range(MAX_TRIES + 20 * count):
        if len(rules) == count:
            break
        length = int(rng.choice(lengths))
        symbols = rng.permutation(below)[:length] if settings.distinct else rng.integers(0, below, length)
        rules.setdefault(tuple(symbols.tolist()))
    return list(rules) if len(rules) == count else None


def _use_all(rules: list[tuple[int, ...]], below: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Put each unused symbol in place of one used twice or more; a new symbol cannot make two rules equal."""
    uses = Counter(child for rhs in rules for child in rhs)
    for symbol in [symbol for symbol in range(below) if symbol not in uses]:
        places = [(r, k) for r, rhs in enumerate(rules) for k, child in enumerate(rhs) if uses[child] > 1]
        r, k = places[rng.integers(len(places))]
        uses[rules[r][k]] -= 1
        uses[symbol] += 1
        rules[r] = (*rules[r][:k], symbol, *rules[r][k + 1 :])
    return rules
