"""Random streams: an independent generator for every tuple of keys, the same in any process.

Seeding by ``seed + index`` would repeat most data under the next seed, so keys are hashed, and the hash is the key of a
counter-based generator.
"""

from typing import Any

import numpy as np

from synth.identity import digest

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def rng(*keys: Any) -> np.random.Generator:
    """A Philox generator whose 128-bit key is the hash of these keys."""
    return np.random.Generator(np.random.Philox(key=int(digest(list(keys)), 16)))


def random_uint64(keys: tuple[Any, ...], first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Random (n, count) uint64; row i is a pure function of keys, first[i] and second[i] (integers >= 0).

    Like `rng` for many small records at once, such as documents by epoch and item. Column j does not depend on `count`.
    """
    low, high = (np.uint64(int(digest(list(keys)), 16) >> shift & 2**64 - 1) for shift in (0, 64))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        row = mix64(low + GOLDEN_GAMMA * (first.astype(np.uint64) + np.uint64(1)))
        row = mix64((row ^ high) + GOLDEN_GAMMA * (second.astype(np.uint64) + np.uint64(1)))
        return mix64(row[:, None] + GOLDEN_GAMMA * np.arange(1, count + 1, dtype=np.uint64))


def mix64(x: Any) -> Any:
    """Output function of splitmix64 (a hash of 64 bits) for a uint64 or an array.

    Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014. Compiled in numba_rng.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def bounded_integers(bits: Any, bound: Any) -> Any:
    """Integers 0..bound-1 (int64) from a random uint64 or an array; bound < 2**31, bias below 2**-31."""
    return np.int64((bits >> np.uint64(33)) * np.uint64(bound) >> np.uint64(31))
