"""A model without one of its blocks: what the residual stream carries past it anyway."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lm.model import Decoder
from synth.errors import UserError


@contextmanager
def without_block(model: Decoder, number: int) -> Iterator[None]:
    """While this is open, the residual stream passes block `number` (from 0) unchanged, also when going on token by
    token; no weight is touched. Raises UserError for a block that is not there."""
    if not 0 <= number < len(model.blocks):
        raise UserError(f"there is no block {number} to leave out; the model has 0 to {len(model.blocks) - 1}")
    block = model.blocks[number]
    block.forward = block.step = _past
    try:
        yield
    finally:
        del block.forward, block.step


def _past(x: Any, *_: Any) -> Any:
    return x
