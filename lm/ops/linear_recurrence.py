"""Gated linear recurrences: the naive reference, and a dispatch to the fastest implementation.

Per head a state S (K, V): S_t = diag(a_t) S_{t-1} + k_t v_t^T and o_t = S_t^T q_t.
Shapes: q, k (B, T, G, K) for G groups of heads that share them, v (B, T, H, V), state (B, H, K, V).
log_decay, log a_t <= 0, has one of three forms: (B, T, H, K), one per key channel (gated linear attention, arXiv
2312.06635; G = H); (B, T, H), one per head (Mamba2, arXiv 2405.21060); None for a = 1 (linear attention, arXiv
2006.16236). is_doc_start (B, T) is True at the first token of a document, which sees nothing before it.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lm.ops.chunked_recurrence import MIN_LOG_DECAY, chunk_linear_recurrence
from lm.ops.fla_adapter import pack_varlen


def recurrent_step(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    """The output (B, H, V) of one token and the state after it; arguments without the dimension T. Decays are clamped
    as in training."""
    heads = v.shape[1] // q.shape[1]
    q, k = q.repeat_interleave(heads, 1), k.repeat_interleave(heads, 1)
    if log_decay is not None:
        log_decay = log_decay.clamp_min(MIN_LOG_DECAY)
        state = state * (log_decay if log_decay.ndim == 3 else log_decay[..., None]).exp()[..., None]
    state = state + k[..., None] * v[..., None, :]
    return (q[..., None] * state).sum(-2), state


def naive_linear_recurrence(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Tensor | None = None,
    is_doc_start: Bool[Tensor, "B T"] | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the final state, token by token: the slow reference."""
    out = []
    state = v.new_zeros(len(v), v.shape[2], k.shape[3], v.shape[3]) if initial_state is None else initial_state
    for t in range(v.shape[1]):
        if is_doc_start is not None:
            state = state.masked_fill(is_doc_start[:, t, None, None, None], 0.0)
        o, state = recurrent_step(q[:, t], k[:, t], v[:, t], None if log_decay is None else log_decay[:, t], state)
        out.append(o)
    return torch.stack(out, 1), state


def linear_recurrence(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Tensor | None = None,
    is_doc_start: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and final state from an empty state, by flash-linear-attention on a GPU that has it, else in chunks."""
    if v.device.type == "cuda" and has_fla():
        return fla_linear_recurrence(q, k, v, log_decay, is_doc_start)
    return chunk_linear_recurrence(q, k, v, log_decay, is_doc_start)


@cache
def has_fla() -> bool:
    """Whether flash-linear-attention can be imported."""
    return find_spec("fla") is not None


def fla_linear_recurrence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, is_doc_start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`linear_recurrence` by flash-linear-attention."""
    by_channel = log_decay is not None and log_decay.ndim == 4
    module: Any = import_module("fla.ops.gla" if by_channel else "fla.ops.simple_gla")
    kernel = module.chunk_gla if by_channel else module.chunk_simple_gla
    heads = v.shape[2] // q.shape[2]
    inputs = (q.repeat_interleave(heads, 2), k.repeat_interleave(heads, 2), v.to(q.dtype), log_decay)
    return pack_varlen(kernel, inputs, is_doc_start)
