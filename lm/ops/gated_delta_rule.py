"""The gated delta rule: a linear recurrence that decays, and corrects what the state holds for a key.

arXiv 2412.06464, equation 10: S_t = a_t S_{t-1} (I - b_t k_t k_t^T) + b_t v_t k_t^T and o_t = S_t q_t, with one decay
a_t and one writing strength b_t (beta) per head. Here the state is stored transposed, (K, V).
"""

from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lm.ops.chunked_delta_rule import chunk_gated_delta_rule, l2_normalize, zero_state
from lm.ops.cpu_delta_rule import cpu_gated_delta_rule
from lm.ops.cpu_dispatch import can_use_cpu_kernels
from lm.ops.fla_adapter import Kernel, pack_varlen

MAX_CPU_STATE = 2048  # numbers in the state of a head; many larger states do not fit the cache of a core


def gated_delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    beta: Float[Tensor, "B T H"],
    is_doc_start: Bool[Tensor, "B T"] | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the final state, by the fastest implementation for the inputs' device and dtype.

    q, k: of any length, L2-normalized first; log_decay: log a_t <= 0; beta: b_t in [0, 1]; is_doc_start: True where a
    document starts, whose tokens see nothing before it; initial_state: None for zeros.
    """
    dtype = torch.get_autocast_dtype(q.device.type) if torch.is_autocast_enabled(q.device.type) else v.dtype
    rest = (log_decay, beta, is_doc_start, initial_state)
    if can_use_fla(q.device.type, dtype, is_doc_start is not None, initial_state is not None):
        kernel = load_fla_kernel()
        if kernel is not None:
            return fla_gated_delta_rule(kernel, q.to(dtype), k.to(dtype), v.to(dtype), *rest)
    if prefers_cpu_kernel(q, k.shape[-1] * v.shape[-1], dtype):
        return cpu_gated_delta_rule(q, k, v, *rest)
    return chunk_gated_delta_rule(l2_normalize(q), l2_normalize(k), v, *rest)


def prefers_cpu_kernel(q: Tensor, state_size: int, dtype: torch.dtype) -> bool:
    """Whether the vectorised CPU kernel is possible and fastest, for states of `state_size` numbers per head."""
    return can_use_cpu_kernels(q) and dtype == torch.float32 and state_size <= MAX_CPU_STATE


def can_use_fla(device: str, dtype: torch.dtype, has_doc_starts: bool, has_initial_state: bool) -> bool:
    """Whether flash-linear-attention takes such inputs: half precision, no initial state with several documents."""
    half = dtype in (torch.float16, torch.bfloat16)
    return device == "cuda" and half and not (has_doc_starts and has_initial_state)


@cache
def load_fla_kernel() -> Kernel | None:
    """The kernel of flash-linear-attention; None if that is not installed."""
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule
    except ImportError:
        return None
    return chunk_gated_delta_rule


def fla_gated_delta_rule(
    kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, is_doc_start: Tensor | None,
    initial_state: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`gated_delta_rule` by flash-linear-attention."""
    inputs = (q, k, v, log_decay, beta)
    return pack_varlen(kernel, inputs, is_doc_start, initial_state=initial_state, use_qk_l2norm_in_kernel=True)


def recurrent_step(
    state: Float[Tensor, "B H K V"],
    q: Float[Tensor, "B H K"],
    k: Float[Tensor, "B H K"],
    v: Float[Tensor, "B H V"],
    log_decay: Float[Tensor, "B H"],
    beta: Float[Tensor, "B H"],
) -> tuple[Float[Tensor, "B H V"], Float[Tensor, "B H K V"]]:
    """The output of one token and the state after it, for queries and keys as given."""
    state = log_decay.exp()[..., None, None] * state
    predicted = (k[..., None, :] @ state)[..., 0, :]
    state = state + k[..., :, None] * (beta[..., None] * (v - predicted))[..., None, :]
    return (q[..., None, :] @ state)[..., 0, :], state


def naive_gated_delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    beta: Float[Tensor, "B T H"],
    is_doc_start: Bool[Tensor, "B T"] | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The recurrence token by token: the slow reference of `chunk_gated_delta_rule`, with its arguments and result."""
    state = zero_state(k, v) if initial_state is None else initial_state
    outputs = []
    for t in range(q.shape[1]):
        if is_doc_start is not None:
            state = state * ~is_doc_start[:, t, None, None, None]
        out, state = recurrent_step(state, q[:, t], k[:, t], v[:, t], log_decay[:, t], beta[:, t])
        outputs.append(out)
    return torch.stack(outputs, 1), state
