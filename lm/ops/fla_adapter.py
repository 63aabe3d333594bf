"""Recurrences by kernels of flash-linear-attention, to which the documents of a batch are pieces of one long row."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, Tensor]]


def in_one_row(
    kernel: Kernel, inputs: Sequence[Tensor | None], begins: Bool[Tensor, "B T"] | None, **settings: Any
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """What every token reads, and the state after the last one.

    inputs: (B, T, ...) in the kernel's order; begins: where a document starts, whose tokens see nothing before it.
    """
    settings |= {"scale": 1.0, "output_final_state": True}
    if begins is None:
        return kernel(*inputs, **settings)
    first = begins.clone()
    first[:, 0] = True
    cuts = F.pad(first.flatten().nonzero()[:, 0], (0, 1), value=first.numel())
    row = (None if x is None else x.flatten(0, 1)[None] for x in inputs)
    read, states = kernel(*row, cu_seqlens=cuts, **settings)
    return read[0].unflatten(0, first.shape), states[first.sum(1).cumsum(0) - 1]
