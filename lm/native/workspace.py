"""Large arrays that the kernels work in, used again step after step: fresh memory costs a page fault every 4 KiB."""

from collections import defaultdict

import torch
from torch import Tensor

MAX_FREE = 2  # arrays of one size that are kept for the next step
_free: dict[int, list[Tensor]] = defaultdict(list)


def take(size: int) -> Tensor:
    """An array (size,) in fp32 with any content, which nobody else uses."""
    return _free[size].pop() if _free[size] else torch.empty(size)


def give_back(array: Tensor) -> None:
    """Let the next step use an array that is no longer needed."""
    if len(_free) > 2 * MAX_FREE:  # other models, or other batches, have other sizes
        _free.clear()
    if len(_free[array.numel()]) < MAX_FREE:
        _free[array.numel()].append(array)
