"""Random draws inside numba loops, by splitmix64: document i of a call is a pure function of the call's key and of i.

Take one key from the generator with `draw_key` and call `seed_state` for each document.
"""

import numpy as np

from synth.compiled_code import njit
from synth.random import rng
from synth.random.rng import GOLDEN_GAMMA

mix64 = njit(inline="always")(rng.mix64)
bounded_integer = njit(inline="always")(rng.bounded_integers)


def draw_key(generator: np.random.Generator) -> np.ndarray:
    """A random key (2,) uint64 for the documents of one call."""
    return generator.integers(0, 2**64, 2, np.uint64)


@njit()
def seed_state(state, key, i):
    """Set state (1,) uint64 for document i."""
    state[0] = mix64(mix64(key[0] + GOLDEN_GAMMA * np.uint64(i + 1)) ^ key[1])


@njit()
def next_uint64(state):
    """The next random uint64."""
    state[0] += GOLDEN_GAMMA
    return mix64(state[0])


@njit()
def next_bounded(state, bound):
    """A random integer 0..bound-1, for bound < 2**31; the bias is below 2**-31."""
    return bounded_integer(next_uint64(state), bound)


@njit()
def sample_categorical(state, cumulative):
    """A random integer 0..m-1 with cumulative probabilities (m,)."""
    share = np.float64(next_uint64(state) >> np.uint64(11)) * 2.0**-53
    return min(np.searchsorted(cumulative, share, side="right"), len(cumulative) - 1)


@njit()
def partial_shuffle(state, numbers, n, first):
    """Write 0..n-1 into numbers[:n], the first `first` of them drawn at random without replacement."""
    for j in range(n):
        numbers[j] = j
    for j in range(min(first, n - 1)):
        other = j + next_bounded(state, n - j)
        numbers[j], numbers[other] = numbers[other], numbers[j]
