"""Ragged batches: terminal numbers (N,) and offsets (n+1,); sentence i is tokens[offsets[i]:offsets[i+1]]."""

import numpy as np
from numpy.typing import ArrayLike

from synth.cfg.grammar import Grammar
from synth.errors import UserError


def validate_batch(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The batch as contiguous int32 tokens and int64 offsets. Raises UserError on a foreign token or broken offsets."""
    numbers, bounds = np.asarray(tokens), np.asarray(offsets)
    if numbers.ndim != 1 or bounds.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise UserError("tokens and offsets must be one-dimensional arrays of integers")
    if len(bounds) == 0 or bounds[0] != 0 or bounds[-1] != len(numbers) or np.any(np.diff(bounds) < 0):
        raise UserError(f"offsets must rise from 0 to the number of tokens, {len(numbers)}")
    foreign = np.flatnonzero((numbers < 0) | (numbers >= len(grammar.terminals)))
    if foreign.size:
        where = int(foreign[0])
        row = int(np.searchsorted(bounds, where, "right")) - 1
        raise UserError(
            f"token {numbers[where]} at position {where - bounds[row]} of sentence {row} is no terminal number of "
            f"{grammar.name}; they are 0 to {len(grammar.terminals) - 1}"
        )
    return np.ascontiguousarray(numbers, np.int32), np.ascontiguousarray(bounds, np.int64)
