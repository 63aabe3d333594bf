"""Causal depthwise convolution (lm.layers.canon) on a CPU, forward and backward in one pass over memory each.

It is bound by memory bandwidth, and torch's operations read and write everything once per tap and once per gradient of
a tap. Tests compare it with lm.layers.canon.convolve.
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
from torch import Tensor
from torch.autograd.function import once_differentiable

from synth.compiled_code import njit


def _compiled(function: Callable[..., None]) -> Any:
    """Compile with numba, without the wrapper of a runtime type checker."""
    # contract: fused multiply-add; other fastmath flags would hide NaNs
    return njit(fastmath={"contract"}, error_model="numpy")(unwrap(function))


@_compiled
def _forward(x: np.ndarray, taps: np.ndarray, index: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
    """Rows first..last-1 of out (B, T, C) from x (B, T, C), taps (K, C), the token's own first, and positions within
    documents, index (B or 1, T)."""
    _, length, channels = x.shape
    kernel = len(taps)
    for b in range(first, last):
        position = index[b % len(index)]
        for t in range(length):
            past = min(kernel - 1, position[t])
            if past == 3:  # the papers' kernel of 4, away from a document's start
                for c in range(channels):
                    recent = taps[0, c] * x[b, t, c] + taps[1, c] * x[b, t - 1, c]
                    out[b, t, c] = recent + (taps[2, c] * x[b, t - 2, c] + taps[3, c] * x[b, t - 3, c])
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
    """Rows first..last-1 of dx (B, T, C) and of dtaps (B, K, C), the taps' gradient per row."""
    _, length, channels = x.shape
    kernel = len(taps)
    for b in range(first, last):
        position = index[b % len(index)]
        dtaps[b] = 0
        for t in range(length):
            past = min(kernel - 1, position[t])
            ahead = min(kernel - 1, length - 1 - t)
            while position[t + ahead] < ahead:  # a later document
                ahead -= 1
            if past == 3 and ahead == 3:
                for c in range(channels):
                    g = grad[b, t, c]
                    recent = taps[0, c] * g + taps[1, c] * grad[b, t + 1, c]
                    dx[b, t, c] = recent + (taps[2, c] * grad[b, t + 2, c] + taps[3, c] * grad[b, t + 3, c])
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
    return ThreadPoolExecutor(threads)  # one per process: threads do not survive a fork


def _over_rows(work: Callable[..., None], rows: int, *arrays: np.ndarray) -> None:
    """Run `work` on slices of the rows, in as many threads as torch has."""
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
    def forward(ctx: Any, x: Tensor, weight: Tensor, index: Tensor, identity: float) -> Tensor:
        x = x.contiguous()
        taps = weight.detach().flip(1).T.contiguous()
        taps[0] += identity
        ctx.save_for_backward(x, taps, index)
        out = torch.empty_like(x)
        _over_rows(_forward, len(x), x.detach().numpy(), taps.numpy(), index.numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, taps, index = ctx.saved_tensors
        dx, dtaps = torch.empty_like(x), x.new_empty(len(x), *taps.shape)
        inputs = (grad.contiguous().numpy(), x.numpy(), taps.numpy(), index.numpy())
        _over_rows(_backward, len(x), *inputs, dx.numpy(), dtaps.numpy())
        return dx, dtaps.sum(0).T.flip(1), None, None


def convolve(
    x: Float[Tensor, "B T C"], weight: Float[Tensor, "C K"], index: Int[Tensor, "*B T"], identity: float = 0.0
) -> Float[Tensor, "B T C"]:
    """lm.layers.canon.convolve in fp32 on a CPU."""
    return _Convolution.apply(x, weight, index.view(-1, x.shape[1]), identity)
