"""How fast training runs on this machine: the rate of large matrix products, and the share that training reaches."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import numpy as np

# Share of the rate of large matrix products that training reached, by d_model: medians of timed steps on one CPU thread
# (batches of 256 to 4096 tokens). Small matrices are slower; the dry run's --time-steps times the steps themselves.
EFFICIENCY = {16: 0.03, 32: 0.12, 64: 0.27, 128: 0.41, 256: 0.63, 768: 0.7}


def efficiency(width: int) -> float:
    """Share of the matmul rate that training at this d_model reaches, interpolated between the measured widths."""
    return float(np.interp(np.log(width), np.log(list(EFFICIENCY)), list(EFFICIENCY.values())))


@cache
def measure_matmul_flops(device: Literal["cpu", "cuda"] = "cpu") -> float:
    """FLOPs per second of large matrix products, on one CPU thread in fp32 or on the GPU in bf16.

    The best product within 0.3 s counts, as other processes may be at work; measured once a process.
    """
    import torch  # here, so that planners start without it

    n, dtype = (4096, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = 0.0
    with single_thread():
        begin = time.perf_counter()
        while (start := time.perf_counter()) < begin + 0.3:
            float((a @ a)[0, 0])  # waits for the device
            best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


@contextmanager
def single_thread() -> Iterator[None]:
    """Give torch one CPU thread inside the block, as in a worker process when there is one for each core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
