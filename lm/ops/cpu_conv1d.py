"""The causal depthwise convolution of lm.layers.canon on a CPU in one pass over memory, forward and backward.

It does so little with each number that memory is all it costs, and torch's own operations read and write everything
once for each tap, and again for each tap's gradient. The same numbers as lm.layers.canon.convolve, which tests hold it
to.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from inspect import unwrap
from os import getpid
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable


def _compiled(function: Callable[..., None]) -> Any:
    """numba's form of a function; of the bare one where a type checker has wrapped it."""
    # contract: multiply and add in one instruction; what more fastmath allows would let a NaN go unseen
    return njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")(unwrap(function))


@_compiled
def _forward(x: np.ndarray, taps: np.ndarray, index: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
    """Rows first..last-1 of out (B, T, C) from x (B, T, C); taps (K, C), the first for the token itself; index (B or 1,
    T): position within the document."""
    _, length, channels = x.shape
    kernel = len(taps)
    for b in range(first, last):
        where = index[b % len(index)]
        for t in range(length):
            past = min(kernel - 1, where[t])
            if past == 3:  # the papers' kernel, away from the start
                for c in range(channels):
                    near = taps[0, c] * x[b, t, c] + taps[1, c] * x[b, t - 1, c]
                    out[b, t, c] = near + (taps[2, c] * x[b, t - 2, c] + taps[3, c] * x[b, t - 3, c])
                continue
            for c in range(channels):
                out[b, t, c] = taps[0, c] * x[b, t, c]
            for back in range(1, past + 1):
                for c in range(channels):
                    out[b, t, c] += taps[back, c] * x[b, t - back, c]


@_compiled
def _backward(
    grad: np.ndarray, x: np.ndarray, taps: np.ndarray, index: np.ndarray,
    dx: np.ndarray, dtaps: np.ndarray, first: int, last: int,
) -> None:  # fmt: skip
    """Rows first..last-1 of dx (B, T, C) and of dtaps (B, K, C), the part of each row in the gradient of the taps."""
    _, length, channels = x.shape
    kernel = len(taps)
    for b in range(first, last):
        where = index[b % len(index)]
        dtaps[b] = 0
        for t in range(length):
            past = min(kernel - 1, where[t])
            ahead = min(kernel - 1, length - 1 - t)
            while where[t + ahead] < ahead:  # the next document begins before
                ahead -= 1
            if past == 3 and ahead == 3:
                for c in range(channels):
                    g = grad[b, t, c]
                    near = taps[0, c] * g + taps[1, c] * grad[b, t + 1, c]
                    dx[b, t, c] = near + (taps[2, c] * grad[b, t + 2, c] + taps[3, c] * grad[b, t + 3, c])
                    dtaps[b, 0, c] += x[b, t, c] * g
                    dtaps[b, 1, c] += x[b, t - 1, c] * g
                    dtaps[b, 2, c] += x[b, t - 2, c] * g
                    dtaps[b, 3, c] += x[b, t - 3, c] * g
                continue
            for c in range(channels):
                dx[b, t, c] = taps[0, c] * grad[b, t, c]
                dtaps[b, 0, c] += x[b, t, c] * grad[b, t, c]
            for step in range(1, ahead + 1):
                for c in range(channels):
                    dx[b, t, c] += taps[step, c] * grad[b, t + step, c]
            for back in range(1, past + 1):
                for c in range(channels):
                    dtaps[b, back, c] += x[b, t - back, c] * grad[b, t, c]


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)  # one a process: threads do not survive a fork


def _over_rows(work: Callable[..., None], rows: int, *arrays: np.ndarray) -> None:
    """Let as many threads as torch has share the rows."""
    threads = min(torch.get_num_threads(), rows)
    if threads == 1:
        work(*arrays, 0, rows)
        return
    cuts = np.linspace(0, rows, threads + 1).astype(int).tolist()
    pool = _pool(threads, getpid())
    for done in [pool.submit(work, *arrays, a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]:
        done.result()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, index: Tensor, own: float) -> Tensor:
        x = x.contiguous()
        taps = weight.detach().flip(1).T.contiguous()
        taps[0] += own
        ctx.save_for_backward(x, taps, index)
        out = torch.empty_like(x)
        _over_rows(_forward, len(x), x.detach().numpy(), taps.numpy(), index.numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, taps, index = ctx.saved_tensors
        dx, dtaps = torch.empty_like(x), x.new_empty(len(x), *taps.shape)
        given = (grad.contiguous().numpy(), x.numpy(), taps.numpy(), index.numpy())
        _over_rows(_backward, len(x), *given, dx.numpy(), dtaps.numpy())
        return dx, dtaps.sum(0).T.flip(1), None, None


def convolve(
    x: Float[Tensor, "B T C"], weight: Float[Tensor, "C K"], index: Int[Tensor, "*B T"], own: float = 0.0
) -> Float[Tensor, "B T C"]:
    """lm.layers.canon.convolve for fp32 on a CPU; the index always given."""
    return _Convolution.apply(x, weight, index.view(-1, x.shape[1]), own)
