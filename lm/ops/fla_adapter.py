"""Calls kernels of flash-linear-attention, which take the documents of a batch packed into one row (cu_seqlens)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, Tensor]]


def pack_varlen(
    kernel: Kernel, inputs: Sequence[Tensor | None], is_doc_start: Bool[Tensor, "B T"] | None, **settings: Any
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the final state of a kernel, each document starting from an empty state.

    inputs: (B, T, ...) in the kernel's order; is_doc_start: True at the first token of each document, None for one
    document a row; settings: further arguments of the kernel.
    """
    settings |= {"scale": 1.0, "output_final_state": True}
    if is_doc_start is None:
        return kernel(*inputs, **settings)
    first = is_doc_start.clone()
    first[:, 0] = True
    cuts = F.pad(first.flatten().nonzero()[:, 0], (0, 1), value=first.numel())
    row = (None if x is None else x.flatten(0, 1)[None] for x in inputs)
    read, states = kernel(*row, cu_seqlens=cuts, **settings)
    return read[0].unflatten(0, first.shape), states[first.sum(1).cumsum(0) - 1]
