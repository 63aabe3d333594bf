"""How fast training runs on this machine: the rate of large matrix products, and the share that training reaches."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from lm.config import ModelConfig

# Share of the rate of large matrix products that training reached, by d_model: medians of timed steps of three blocks
# on one CPU thread, by the compiled kernels (batches of 512 to 4096 tokens) and on the plain path (256 to 4096). Small
# matrices are slower; the dry run's --time-steps times the steps themselves.
COMPILED_EFFICIENCY = {16: 0.31, 32: 0.41, 64: 0.56, 128: 0.67, 256: 0.73, 768: 0.66}
PLAIN_EFFICIENCY = {16: 0.03, 32: 0.12, 64: 0.27, 128: 0.41, 256: 0.63, 768: 0.7}
COMPILED_POSITIONS = ("learned", "rotary", "none")


def efficiency(width: int, compiled: bool = True) -> float:
    """Share of the matmul rate that training at this d_model reaches, by the compiled kernels or on the plain path;
    interpolated between the measured widths."""
    shares = COMPILED_EFFICIENCY if compiled else PLAIN_EFFICIENCY
    return float(np.interp(np.log(width), np.log(list(shares)), list(shares.values())))


def has_compiled_kernels(model: "ModelConfig") -> bool:
    """Whether the kernels of lm/native compute the model, if they can be compiled."""
    is_plain = model.mixer == "attention" and model.causal and not model.qk_norm and not model.n_experts
    return is_plain and model.positions in COMPILED_POSITIONS and model.mlp != "none" and not model.canon_activation


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
