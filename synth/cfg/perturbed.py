"""Sentences with faults in them (Physics of Language Models, Part 1, arXiv 2305.13673, results 11 to 13).

A fault replaces a symbol while the sentence grows: a terminal by another, or a nonterminal, and then what it stands for
is grown from the symbol in its place. The rules are followed everywhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.cfg.grammar import Grammar
from synth.cfg.sampling import Noise, grow
from synth.errors import UserError


@dataclass(frozen=True)
class Faults:
    """share: the probability that a sentence is perturbed at all; strength: the probability that a symbol of the level
    is replaced in such a sentence; level: as in the papers, 1 for the root, L for the terminals; images: for each
    symbol of the level the one that replaces it (its number within the level), or empty: one drawn evenly from the
    level, the symbol itself among them."""

    level: int
    strength: float
    share: float = 1.0
    images: Sequence[int] = ()


def sample_perturbed(
    grammar: Grammar, rng: np.random.Generator, n: int, faults: Faults, labels: bool = False
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray] | None, np.ndarray]:
    """`synth.cfg.sample` with faults: terminals, offsets, labels, and which sentences were chosen (n,) bool.

    Sentences that are not chosen are those that `sample` draws with the same generator, and sentence i does not depend
    on n. The labels tell the tree as it grew: where a symbol was replaced, the one that took its place. Raises
    UserError when the level holds nothing to exchange, or the images are not one for each of its symbols.
    """
    check_level(grammar, faults.level)
    size = len(grammar.levels[faults.level - 1])
    if len(faults.images) not in (0, size) or not all(0 <= image < size for image in faults.images):
        raise UserError(f"images={faults.images} must name one of {size} symbols, 0 to {size - 1}, for each of them")
    key, other, choice = (rng.integers(0, 2**64, 2, np.uint64) for _ in range(3))
    chosen = np.random.Generator(np.random.Philox(key=choice)).random(n) < faults.share
    noise = Noise(other, chosen, faults.level - 1, float(faults.strength), np.array(faults.images, np.int32))
    tokens, offsets, truth, _ = grow(grammar, key, n, labels, noise)
    return tokens, offsets, truth, chosen


def check_level(grammar: Grammar, level: int) -> None:
    """Raise UserError unless the level lies below the root and has two symbols or more."""
    if not 2 <= level <= grammar.depth:
        raise UserError(f"level={level} is not below the root of {grammar.name}; choose one of 2 to {grammar.depth}")
    if len(grammar.levels[level - 1]) < 2:
        raise UserError(f"level {level} of {grammar.name} has a single symbol, nothing to exchange; choose another")
