"""Perturbed sentences (Physics of Language Models, Part 1, arXiv 2305.13673, results 11 to 13).

During sampling, symbols of one level are replaced by others of that level; a replaced nonterminal is expanded as its
replacement. The rules are followed everywhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.cfg.grammar import Grammar
from synth.cfg.sampling import Noise, sample_derivations
from synth.errors import UserError


@dataclass(frozen=True)
class Perturbation:
    """Which symbols of a sentence are replaced.

    level: counted as in the papers, 1 for the root, L for the terminals; strength: probability that a symbol of the
    level is replaced, in a perturbed sentence; share: probability that a sentence is perturbed; images: replacement of
    each symbol, as numbers within the level, or empty: drawn uniformly from the level, the symbol itself included.
    """

    level: int
    strength: float
    share: float = 1.0
    images: Sequence[int] = ()


def sample_perturbed(
    grammar: Grammar, rng: np.random.Generator, n: int, perturbation: Perturbation, labels: bool = False
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray] | None, np.ndarray]:
    """`synth.cfg.sample` with a perturbation: terminals, offsets, labels, and which sentences are perturbed (n,) bool.

    Sentences that are not perturbed equal those of `sample` with the same generator; sentence i does not depend on n.
    Labels describe the derivation after replacement. Raises UserError for a level without two symbols below the root,
    and for images that are not one for each of its symbols.
    """
    check_level(grammar, perturbation.level)
    size = len(grammar.levels[perturbation.level - 1])
    if len(perturbation.images) not in (0, size) or not all(0 <= image < size for image in perturbation.images):
        raise UserError(
            f"images={perturbation.images} must name one of {size} symbols, 0 to {size - 1}, for each of them"
        )
    key, other, choice = (rng.integers(0, 2**64, 2, np.uint64) for _ in range(3))
    chosen = np.random.Generator(np.random.Philox(key=choice)).random(n) < perturbation.share
    noise = Noise(
        other, chosen, perturbation.level - 1, float(perturbation.strength), np.array(perturbation.images, np.int32)
    )
    tokens, offsets, truth, _ = sample_derivations(grammar, key, n, labels, noise)
    return tokens, offsets, truth, chosen


def check_level(grammar: Grammar, level: int) -> None:
    """Raise UserError unless the level (from 1) is below the root and has at least two symbols."""
    if not 2 <= level <= grammar.depth:
        raise UserError(f"level={level} is not below the root of {grammar.name}; choose one of 2 to {grammar.depth}")
    if len(grammar.levels[level - 1]) < 2:
        raise UserError(f"level {level} of {grammar.name} has a single symbol, nothing to exchange; choose another")
