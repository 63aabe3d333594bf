"""The oracles and the sampler again, slow and plain, to hold the fast ones against (Physics of Language Models, Part 1,
Figure 4)."""

from itertools import product

import numpy as np

from synth.cfg.grammar import Grammar
from synth.cfg.sampling import Noise, _choose, _next, _seed


def inside_chart(grammar: Grammar, sentence: np.ndarray, count: bool = False) -> dict[str, np.ndarray]:
    """A matrix (T+1, T+1) for each symbol: [i, j] is the probability, or parse count, of sentence[i:j] under it."""
    size = len(sentence) + 1
    matrices = {}
    for number, terminal in enumerate(grammar.terminals):
        matrices[terminal] = np.zeros((size, size))
        for k in np.flatnonzero(np.asarray(sentence) == number):
            matrices[terminal][k, k + 1] = 1
    for symbol in reversed(grammar.rules):
        matrices[symbol] = np.zeros((size, size))
        for rhs, weight in zip(grammar.rules[symbol], grammar.weights[symbol], strict=True):
            whole = np.eye(size)
            for child in rhs:
                whole = whole @ matrices[child]
            matrices[symbol] += whole * (1 if count else weight)
    return matrices


def count_parses(grammar: Grammar, sentence: np.ndarray) -> int:
    """Number of derivations of one sentence of terminal numbers (T,)."""
    return round(inside_chart(grammar, sentence, count=True)[grammar.root][0, -1]) if len(sentence) else 0


def probability(grammar: Grammar, sentence: np.ndarray) -> float:
    """Probability of one sentence of terminal numbers (T,)."""
    return float(inside_chart(grammar, sentence)[grammar.root][0, -1]) if len(sentence) else 0.0


def next_token(grammar: Grammar, sentence: np.ndarray) -> np.ndarray:
    """Rows (T+1, K+1) of one sentence: the next terminal, last column the end, after each prefix."""
    size = len(sentence) + 1
    matrices = inside_chart(grammar, sentence)
    starts = {symbol: np.zeros(size) for symbol in grammar.level_of}
    starts[grammar.root][0] = 1
    for symbol, alternatives in grammar.rules.items():
        for rhs, weight in zip(alternatives, grammar.weights[symbol], strict=True):
            here = starts[symbol] * weight
            for child in rhs:
                starts[child] += here
                here = here @ matrices[child]
    rows = np.stack([*(starts[terminal] for terminal in grammar.terminals), matrices[grammar.root][0]], axis=1)
    rows[0, -1] = 0
    for k, row in enumerate(rows):
        prefix = 1 if k == 0 else starts[grammar.terminals[sentence[k - 1]]][k - 1]
        row[:] = row / prefix if prefix > 0 else 0
    return rows


def language(grammar: Grammar, symbol: str | None = None) -> set[tuple[int, ...]]:
    """All sentences, as tuples of terminal numbers: for tiny grammars only."""
    symbol = symbol or grammar.root
    if symbol not in grammar.rules:
        return {(grammar.terminals.index(symbol),)}
    return {
        tuple(number for part in parts for number in part)
        for rhs in grammar.rules[symbol]
        for parts in product(*(language(grammar, child) for child in rhs))
    }


def hamming_distance(grammar: Grammar, sentence: np.ndarray) -> int:
    """Least number of substitutions that makes the sentence valid, by trying every sentence; -1 if none fits."""
    same = [other for other in language(grammar) if len(other) == len(sentence)]
    return min((sum(a != b for a, b in zip(sentence, other, strict=True)) for other in same), default=-1)


def sample_sentence(grammar: Grammar, key: np.ndarray, i: int, noise: Noise) -> list[int]:
    """Terminal numbers of sample i, grown level by level in plain Python from the sampler's own random bits."""
    compiled, state, other = grammar.compiled, np.empty(4, np.uint64), np.empty(4, np.uint64)
    _seed(key, i, state)
    _seed(noise.key, i, other)
    row = [grammar.root]
    numbers = [symbol for symbols in grammar.levels for symbol in symbols]
    for level, symbols in enumerate(grammar.levels[1:], 1):
        grown: list[str] = []
        for symbol in row:
            number, bits = numbers.index(symbol), np.uint64(_next(state))
            rule = _choose(compiled.rule_first, compiled.even, compiled.below, number, bits)
            grown += grammar.rules[symbol][rule - compiled.rule_first[number]]
        if level == noise.level and noise.chosen[i]:
            grown = [_replace_symbol(symbol, symbols, other, noise) for symbol in grown]
        row = grown
    return [grammar.terminals.index(symbol) for symbol in row]


def _replace_symbol(symbol: str, symbols: tuple[str, ...], state: np.ndarray, noise: Noise) -> str:
    if int(_next(state)) / 2**64 >= noise.strength:
        return symbol
    if len(noise.images):
        return symbols[noise.images[symbols.index(symbol)]]
    return symbols[int(_next(state)) * len(symbols) >> 64]
