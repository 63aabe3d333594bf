"""Gated linear recurrences: their definition, token by token, and the fastest form at hand.

Per head a state S (K, V) takes in keys and values and is asked by queries: S_t = diag(a_t) S_{t-1} + k_t v_t^T and
o_t = S_t^T q_t. Shapes: q, k (B, T, G, K) for G groups of heads that share them, v (B, T, H, V), state (B, H, K, V).
`decay` is log a_t <= 0 in one of three forms: (B, T, H, K) for every channel of the key (gated linear attention, arXiv
2312.06635; G = H), (B, T, H) for whole heads (Mamba2, arXiv 2405.21060), None for a = 1 (linear attention, arXiv
2006.16236). `fresh` (B, T) is True where a document begins: nothing from before reaches that token.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lm.ops.chunked_recurrence import chunked
from lm.ops.fla_adapter import in_one_row


def step(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """One token, the tensors of `recurrence` without T: its output (B, H, V) and the state after it."""
    heads = v.shape[1] // q.shape[1]
    q, k = q.repeat_interleave(heads, 1), k.repeat_interleave(heads, 1)
    if decay is not None:
        state = state * (decay if decay.ndim == 3 else decay[..., None]).exp()[..., None]
    state = state + k[..., None] * v[..., None, :]
    return (q[..., None] * state).sum(-2), state


def recurrence(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    decay: Tensor | None = None,
    fresh: Bool[Tensor, "B T"] | None = None,
    state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the last state by the definition, one token after the other."""
    out = []
    if state is None:
        state = v.new_zeros(len(v), v.shape[2], k.shape[3], v.shape[3])
    for t in range(v.shape[1]):
        if fresh is not None:
            state = state.masked_fill(fresh[:, t, None, None, None], 0.0)
        o, state = step(q[:, t], k[:, t], v[:, t], None if decay is None else decay[:, t], state)
        out.append(o)
    return torch.stack(out, 1), state


def scan(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    decay: Tensor | None = None,
    fresh: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The same from an empty state: by the kernels of flash-linear-attention on a GPU that has them, else in chunks."""
    if v.device.type == "cuda" and has_kernels():
        return by_kernels(q, k, v, decay, fresh)
    return chunked(q, k, v, decay, fresh)


@cache
def has_kernels() -> bool:
    """Whether flash-linear-attention can be imported."""
    return find_spec("fla") is not None


def by_kernels(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, fresh: Tensor | None) -> tuple[Tensor, Tensor]:
    """`scan` by flash-linear-attention."""
    by_channel = decay is not None and decay.ndim == 4
    module: Any = import_module("fla.ops.gla" if by_channel else "fla.ops.simple_gla")
    kernel = module.chunk_gla if by_channel else module.chunk_simple_gla
    heads = v.shape[2] // q.shape[2]
    given = (q.repeat_interleave(heads, 2), k.repeat_interleave(heads, 2), v.to(q.dtype), decay)
    return in_one_row(kernel, given, fresh)
