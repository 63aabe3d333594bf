"""Random streams: one independent generator for every tuple of keys.

Neighbouring keys must not share data (seeding by ``seed + index`` repeats most of it), so the keys are hashed, and the
hash keys a counter-based generator. Nothing here keeps state: the same keys give the same bytes in any process.
"""

from typing import Any

import numpy as np

from synth.identity import digest

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def rng(*keys: Any) -> np.random.Generator:
    """The generator of a tuple of keys (Philox with a 128-bit key); different keys give unrelated streams."""
    return np.random.Generator(np.random.Philox(key=int(digest(list(keys)), 16)))


def words(keys: tuple[Any, ...], first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(n, count) random uint64: row i is a pure function of the keys, first[i] and second[i] (whole numbers >= 0).

    `rng` for many small records at once, such as the documents of a block, each known by its epoch and its item. Column
    j does not depend on `count`.
    """
    low, high = (np.uint64(int(digest(list(keys)), 16) >> shift & 2**64 - 1) for shift in (0, 64))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        row = _scramble(low + _GOLDEN * (first.astype(np.uint64) + np.uint64(1)))
        row = _scramble((row ^ high) + _GOLDEN * (second.astype(np.uint64) + np.uint64(1)))
        return _scramble(row[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))


def _scramble(x: np.ndarray) -> np.ndarray:
    """The output function of splitmix64: every bit of x moves every bit of the result."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def below(random: np.ndarray, bound: int | np.ndarray) -> np.ndarray:
    """Numbers 0..bound-1 (int64) from random uint64 words; bound < 2**31. The bias is below 2**-31."""
    return ((random >> np.uint64(33)) * np.asarray(bound, np.uint64) >> np.uint64(31)).astype(np.int64)
