"""How many bits a sentence carries: the "truth" row of Figure 4 (middle) of Physics of Language Models, Part 1."""

from functools import lru_cache

import numpy as np

from synth.cfg.grammar import Grammar
from synth.cfg.oracles.chart import log_probability
from synth.cfg.sampling import sample_with_log_probability


def derivation_entropy(grammar: Grammar) -> float:
    """Entropy of a derivation in bits, exact: expected occurrences of each symbol times the entropy of its choice."""
    bits = {symbol: -float(np.dot(weights, np.log2(weights))) for symbol, weights in grammar.weights.items()}
    return sum(grammar.expected_counts[symbol] * value for symbol, value in bits.items())


@lru_cache(maxsize=64)  # seconds for long ambiguous sentences, and asked for at every measurement
def sentence_entropy(grammar: Grammar, n: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Entropy of a sentence in bits, and its standard error, from n >= 2 samples.

    H(sentence) = H(derivation) - E[log2 P(sentence) / P(derivation)]. The first term is exact and the second is the
    log of at most a few parses, so the error is far below that of averaging -log2 P(sentence).
    """
    tokens, offsets, _, derivation = sample_with_log_probability(grammar, np.random.default_rng(seed), n)
    excess = (log_probability(grammar, tokens, offsets) - derivation) / np.log(2)
    return derivation_entropy(grammar) - float(excess.mean()), float(excess.std(ddof=1) / np.sqrt(n))
