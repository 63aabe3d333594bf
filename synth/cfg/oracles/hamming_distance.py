"""How far a sentence is from the grammar: the least number of terminals to substitute, by a min-plus chart."""

import numpy as np
from numpy.typing import ArrayLike

from synth.cfg.grammar import Grammar
from synth.cfg.oracles.ragged import validate_batch
from synth.compiled_code import njit

UNREACHABLE = 2**29  # more than any number of substitutions, and twice it still fits int32


def hamming_distance(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> np.ndarray:
    """Least number (n,) int64 of substituted terminals that makes each sentence of tokens (N,), offsets (n+1,) valid.

    0 for members, -1 where no sentence of the grammar has that length. With cost_A[i, m] the least number of
    substitutions that turn the m tokens from i on into a phrase of A, a terminal t costs [token i is not t], a
    right-hand side costs the least sum over the ways to cut the m tokens, and A costs its cheapest rule. Lengths run
    only between each symbol's bounds. Raises UserError on a foreign token.
    """
    tokens, offsets = validate_batch(grammar, tokens, offsets)
    lengths = np.diff(offsets)
    shortest = _bounds(grammar, 0, int(lengths.max(initial=0)))
    longest = _bounds(grammar, 1, int(lengths.max(initial=0)))
    found = np.full(len(lengths), -1, np.int64)
    for i, length in enumerate(lengths):
        if grammar.min_length <= length <= grammar.max_length:
            found[i] = _edits(tokens[offsets[i] : offsets[i + 1]], grammar.compiled, shortest, longest)
    return found


def _bounds(grammar: Grammar, which: int, limit: int) -> np.ndarray:
    """Length bounds of every symbol number, cut where they exceed any sentence at hand."""
    lengths = [grammar.lengths[symbol][which] for symbols in grammar.levels for symbol in symbols]
    return np.array([min(length, limit + 1) for length in lengths], np.int64)


@njit()
def _edits(tokens, g, shortest, longest):
    """One sentence. Tables of a level are (symbol, start, length - shortest length of the level)."""
    n, depth, level_first = len(tokens), len(g.level_first) - 1, g.level_first
    least = 1
    below = np.ones((level_first[depth] - level_first[depth - 1], n + 1, 1), np.int32)
    for position in range(n):
        below[tokens[position], position, 0] = 0
    below[:, n] = UNREACHABLE
    for level in range(depth - 2, -1, -1):
        symbols = range(level_first[level], level_first[level + 1])
        low, high = n + 1, 0
        for symbol in symbols:
            low, high = min(low, shortest[symbol]), max(high, longest[symbol])
        high = min(high, n)
        table = np.full((len(symbols), n + 1, max(high - low + 1, 0)), UNREACHABLE, np.int32)
        starts = n + 1 if level > 0 else 1
        for symbol in symbols:
            for rule in range(g.rule_first[symbol], g.rule_first[symbol + 1]):
                _rule(
                    g.rhs[g.rhs_first[rule] : g.rhs_first[rule + 1]], level_first[level + 1], below, least, shortest,
                    longest, n, starts, table[symbol - level_first[level]], low,
                )  # fmt: skip
        below, least = table, low
    cost = below[0, 0, n - least]
    return cost if cost < UNREACHABLE else -1


@njit()
def _rule(rhs, first, below, least, shortest, longest, n, starts, table, low):
    """Lowers table (start, length - low) to the cost of a right-hand side, child after child."""
    floor, ceiling = 0, 0
    cost = np.zeros((starts, 1), np.int32)
    for child in rhs:
        a, b = shortest[child], min(longest[child], n)
        wider = np.full((starts, min(ceiling + b, n) - (floor + a) + 1 if floor + a <= n else 0), UNREACHABLE, np.int32)
        if wider.shape[1] == 0:
            return
        for start in range(starts):
            for held in range(floor, min(ceiling, n - start) + 1):
                paid = cost[start, held - floor]
                if paid < UNREACHABLE:
                    top = min(b, n - start - held)
                    source, target = below[child - first, start + held], wider[start, held - floor :]
                    for length in range(a, top + 1):
                        target[length - a] = min(target[length - a], paid + source[length - least])
        floor, ceiling, cost = floor + a, min(ceiling + b, n), wider
    for start in range(starts):
        for length in range(floor, ceiling + 1):
            table[start, length - low] = min(table[start, length - low], cost[start, length - floor])
