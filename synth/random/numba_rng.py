"""Random draws inside compiled loops: document i of a call is a pure function of the call's key and of i.

A task that writes its documents in a loop of numba takes one `key` from its generator, calls `begin` for each document
and draws on. So the first m of n documents never depend on n. The stream is that of splitmix64 (Steele and others,
"Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

import numpy as np
from numba import njit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(rng: np.random.Generator) -> np.ndarray:
    """Two uint64 words (2,) that address a call's documents."""
    return rng.integers(0, 2**64, 2, np.uint64)


@njit(cache=True, nogil=True, inline="always")
def scramble(x):
    """splitmix64's scrambler."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def begin(state, key, i):
    """Sets state (1,) uint64 to the beginning of document i."""
    state[0] = scramble(scramble(key[0] + GOLDEN * np.uint64(i + 1)) ^ key[1])


@njit(cache=True, nogil=True)
def word(state):
    """The next uint64."""
    state[0] += GOLDEN
    return scramble(state[0])


@njit(cache=True, nogil=True)
def below(state, bound):
    """A number 0..bound-1 for bound < 2**31; the bias is below 2**-31."""
    return np.int64(((word(state) >> np.uint64(33)) * np.uint64(bound)) >> np.uint64(31))


@njit(cache=True, nogil=True)
def chosen(state, cumulative):
    """A number 0..m-1 with the cumulative probabilities (m,)."""
    share = np.float64(word(state) >> np.uint64(11)) * 2.0**-53
    return min(np.searchsorted(cumulative, share, side="right"), len(cumulative) - 1)


@njit(cache=True, nogil=True)
def permute(state, numbers, n, first):
    """Writes 0..n-1 into numbers[:n] so that the first `first` of them are a random choice in random order."""
    for j in range(n):
        numbers[j] = j
    for j in range(min(first, n - 1)):
        other = j + below(state, n - j)
        numbers[j], numbers[other] = numbers[other], numbers[j]
