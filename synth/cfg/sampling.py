"""Sampling sentences and their parse labels (Physics of Language Models, Part 1, Figures 1 and 6).

Sentence i is a pure function of a 128-bit key and of i, so a longer call begins with the sentences of a shorter one.
"""

from typing import NamedTuple

import numpy as np

from synth.cfg.compiled import Compiled
from synth.cfg.grammar import Grammar
from synth.compiled_code import njit
from synth.errors import UserError
from synth.random.numba_rng import GOLDEN_GAMMA, mix64

MAX_SENTENCE_LENGTH = 1_000_000  # in terminals; hundreds of sentences are drawn at once


class Noise(NamedTuple):
    """Random replacement of the symbols of one level during sampling (see synth.cfg.perturbed).

    key (2,) uint64: key of a separate random stream, so that symbols not replaced stay the same; chosen (n,) bool:
    perturbed sentences; level: from 0, where 0 means no noise; strength: probability that a symbol is replaced; images
    (symbols of the level,) int32: replacements, or empty: uniform over the level.
    """

    key: np.ndarray
    chosen: np.ndarray
    level: int
    strength: float
    images: np.ndarray


NO_NOISE = Noise(np.zeros(2, np.uint64), np.zeros(0, bool), 0, 0.0, np.zeros(0, np.int32))


def sample(
    grammar: Grammar, rng: np.random.Generator, n: int, labels: bool = False
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray] | None]:
    """n sentences of N terminals in all: (terminal numbers (N,) int32, offsets (n+1,) int64, labels or None).

    Sentence i is tokens[offsets[i]:offsets[i+1]]. Labels for the L levels of the grammar, root first:
      ancestor (N, L) int16: number of the ancestor within each level (grammar.levels[l][number]);
      subtree (N, L) int32: index, from the left, of the subtree of each level that contains the position;
      boundary (N,) int8: b# of the paper, the smallest level l in 2..L-1 (the root is level 1) of which a subtree ends
        here, else L. So b_l, "a subtree of level l ends here", is boundary <= l.
    Raises UserError for a grammar with sentences of more than MAX_SENTENCE_LENGTH terminals.
    """
    tokens, offsets, truth, _ = sample_with_log_probability(grammar, rng, n, labels)
    return tokens, offsets, truth


def sample_with_log_probability(
    grammar: Grammar, rng: np.random.Generator, n: int, labels: bool = False
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray] | None, np.ndarray]:
    """As `sample`, and the natural log probability (n,) of the derivation of each sentence."""
    return sample_derivations(grammar, rng.integers(0, 2**64, 2, np.uint64), n, labels, NO_NOISE)


def sample_derivations(
    grammar: Grammar, key: np.ndarray, n: int, labels: bool, noise: Noise
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray] | None, np.ndarray]:
    """`sample_with_log_probability` with a key (2,) uint64 instead of a generator, and with noise."""
    if grammar.max_length > MAX_SENTENCE_LENGTH:
        most = f"sentences of {grammar.name} may have more than {MAX_SENTENCE_LENGTH:,} symbols"
        raise UserError(f"{most}; choose a lower root or shorter rules")
    offsets = np.zeros(n + 1, np.int64)
    offsets[1:] = np.cumsum(_lengths(grammar.compiled, key, n, noise))
    total = int(offsets[-1])
    tokens = np.empty(total, np.int32)
    shape = (total, grammar.depth) if labels else (0, grammar.depth)
    ancestor, subtree, boundary = np.empty(shape, np.int16), np.empty(shape, np.int32), np.empty(shape[0], np.int8)
    log_probability = _fill(grammar.compiled, key, offsets, tokens, ancestor, subtree, boundary, noise)
    truth: dict[str, np.ndarray] | None = (
        {"ancestor": ancestor, "subtree": subtree, "boundary": boundary} if labels else None
    )
    return tokens, offsets, truth, log_probability


@njit()
def _seed(key, i, state):
    """Set the xoshiro256++ state of sentence i."""
    x = mix64(key[0] + GOLDEN_GAMMA * np.uint64(i + 1)) ^ key[1]
    for word in range(4):
        x += GOLDEN_GAMMA
        state[word] = mix64(x)


@njit()
def _next(state):
    """The next 64 random bits of xoshiro256++."""
    total = state[0] + state[3]
    bits = ((total << np.uint64(23)) | (total >> np.uint64(41))) + state[0]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = (state[3] << np.uint64(45)) | (state[3] >> np.uint64(19))
    return bits


@njit(inline="always")
def _choose(rule_first, even, below, symbol, bits):
    """A random rule of the symbol; the bias is below 1e-9 per rule."""
    rule = np.int64(rule_first[symbol])
    last = np.int64(rule_first[symbol + 1]) - 1
    if even[symbol]:
        rule += np.int64(((bits >> np.uint64(32)) * np.uint64(last + 1 - rule)) >> np.uint64(32))
    else:
        point = np.float64(bits >> np.uint64(11)) * 2.0**-53
        while rule < last and point >= below[rule]:
            rule += 1
    return rule


@njit()
def _enlarge(buffer, needed):
    larger = np.empty((2, 2 * needed), np.int32)
    larger[:, : buffer.shape[1]] = buffer
    return larger


@njit()
def _replace_symbols(symbols, count, first, size, state, strength, images):
    """Replace each of `count` symbols with probability `strength` by its image, or uniformly from the level."""
    for node in range(count):
        if np.float64(_next(state) >> np.uint64(11)) * 2.0**-53 < strength:
            if len(images) > 0:
                symbols[node] = first + images[symbols[node] - first]
            else:
                symbols[node] = first + np.int64(((_next(state) >> np.uint64(32)) * np.uint64(size)) >> np.uint64(32))


@njit()
def _lengths(g: Compiled, key, n, noise: Noise):
    """Lengths (n,) of the sentences: the same draws as in `_fill`, down to the last level of nonterminals."""
    lengths = np.zeros(n, np.int64)
    state = np.empty(4, np.uint64)
    buffer = np.empty((2, 64), np.int32)  # the current level's symbols, and the next level's
    depth = len(g.level_first) - 1
    # Arrays are taken out of the tuple once: otherwise numba counts references at each use of the tuple.
    rule_first, even, below, rhs_first, rhs = g.rule_first, g.even, g.below, g.rhs_first, g.rhs
    where, other = noise.level, np.empty(4, np.uint64)
    first, size = g.level_first[where], g.level_first[where + 1] - g.level_first[where]
    for i in range(n):
        _seed(key, i, state)
        noisy = where > 0 and noise.chosen[i]
        if noisy:
            _seed(noise.key, i, other)
        buffer[0, 0] = 0
        count = 1
        for level in range(depth - 1):
            made = 0
            for node in range(count):
                rule = _choose(rule_first, even, below, buffer[level % 2, node], _next(state))
                start, stop = rhs_first[rule], rhs_first[rule + 1]
                if level < depth - 2:
                    if made + stop - start > buffer.shape[1]:
                        buffer = _enlarge(buffer, made + stop - start)
                    for k in range(start, stop):
                        buffer[(level + 1) % 2, made + k - start] = rhs[k]
                made += stop - start
            count = made
            if noisy and level + 1 == where and level < depth - 2:
                _replace_symbols(buffer[where % 2], count, first, size, other, noise.strength, noise.images)
        lengths[i] = count
    return lengths


@njit()
def _fill(g: Compiled, key, offsets, tokens, ancestor, subtree, boundary, noise: Noise):
    """Write tokens and, unless they are empty, labels; return the derivations' log probabilities (n,)."""
    n = len(offsets) - 1
    depth = len(g.level_first) - 1
    labels = len(boundary) > 0
    rule_first, even, below, rhs_first, rhs = g.rule_first, g.even, g.below, g.rhs_first, g.rhs
    level_first, log_weight = g.level_first, g.log_weight
    longest = 0
    for i in range(n):
        longest = max(longest, offsets[i + 1] - offsets[i])
    symbols = np.empty((depth, longest), np.int32)
    parents = np.empty((depth, longest), np.int32)
    logs = np.zeros(n)
    state = np.empty(4, np.uint64)
    where, other = noise.level, np.empty(4, np.uint64)
    first, size = level_first[where], level_first[where + 1] - level_first[where]
    for i in range(n):
        _seed(key, i, state)
        noisy = where > 0 and noise.chosen[i]
        if noisy:
            _seed(noise.key, i, other)
        symbols[0, 0] = 0
        count = 1
        for level in range(depth - 1):
            made = 0
            for node in range(count):
                rule = _choose(rule_first, even, below, symbols[level, node], _next(state))
                logs[i] += log_weight[rule]
                for k in range(rhs_first[rule], rhs_first[rule + 1]):
                    symbols[level + 1, made] = rhs[k]
                    parents[level + 1, made] = node
                    made += 1
            count = made
            if noisy and level + 1 == where:
                _replace_symbols(symbols[where], count, first, size, other, noise.strength, noise.images)
        for node in range(count):
            tokens[offsets[i] + node] = symbols[depth - 1, node] - level_first[depth - 1]
        if labels:
            _label(level_first, symbols, parents, offsets[i], offsets[i + 1], ancestor, subtree, boundary)
    return logs


@njit()
def _label(level_first, symbols, parents, start, stop, ancestor, subtree, boundary):
    """Write the labels of one sentence; a subtree ends where the next position has another ancestor node."""
    depth = len(symbols)
    for row in range(start, stop):
        node = row - start
        for level in range(depth - 1, -1, -1):
            subtree[row, level] = node
            ancestor[row, level] = symbols[level, node] - level_first[level]
            node = parents[level, node]
    for row in range(start, stop):
        lowest = depth
        for level in range(depth - 2, 0, -1):
            if row == stop - 1 or subtree[row, level] != subtree[row + 1, level]:
                lowest = level + 1
        boundary[row] = lowest
