"""Ablation: a model without one of its blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lm.model import Decoder
from synth.errors import UserError


@contextmanager
def without_block(model: Decoder, number: int) -> Iterator[None]:
    """Context in which block `number` (from 0) returns its input, in `forward` and in `step`. Raises UserError if the
    model has no such block."""
    if not 0 <= number < len(model.blocks):
        raise UserError(f"there is no block {number} to leave out; the model has 0 to {len(model.blocks) - 1}")
    block = model.blocks[number]
    block.forward = block.step = _identity
    try:
        yield
    finally:
        del block.forward, block.step


def _identity(x: Any, *_: Any) -> Any:
    return x
