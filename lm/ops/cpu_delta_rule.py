"""The gated delta rule token by token on a CPU, vectorised over sequences and heads.

A small state (a few hundred numbers) makes chunks many small matrix products; the recurrence over LANES sequences and
heads at a time is faster. The backward pass recomputes states from a checkpoint every CHECKPOINT_EVERY tokens. Tests
compare it with `chunk_gated_delta_rule`.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm.ops.chunked_delta_rule import zero_state
from lm.ops.cpu_delta_rule_kernels import CHECKPOINT_EVERY, LANES, backward, forward


class _CPUGatedDeltaRule(torch.autograd.Function):
    """q, k (B, T, H, K), v (B, T, H, V), decay, beta (B, T, H, 1), initial_state (B, H, K, V), needs_grad."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        *inputs, initial_state, needs_grad = args
        batch, length, heads, key = inputs[0].shape
        spans = -(-length // CHECKPOINT_EVERY) if needs_grad else 0
        checkpoints = initial_state.new_empty(-(-batch * heads // LANES), spans, key, initial_state.shape[3], LANES)
        out, final = torch.empty_like(inputs[2]), torch.empty_like(initial_state)
        forward(*(x.detach().numpy() for x in (*inputs, initial_state, out, final, checkpoints)))
        ctx.save_for_backward(*inputs, checkpoints)
        return out, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor, dfinal: Tensor) -> tuple[Tensor | None, ...]:
        inputs_and_grads = (*ctx.saved_tensors, dout.contiguous(), dfinal.contiguous())
        grads = [torch.empty_like(x) for x in (*inputs_and_grads[:5], dfinal)]
        backward(*(x.detach().numpy() for x in (*inputs_and_grads, *grads)))
        return *grads, None


def cpu_gated_delta_rule(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    beta: Float[Tensor, "B T H"],
    is_doc_start: Bool[Tensor, "B T"] | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the final state in fp32 on a CPU; q and k are L2-normalized first."""
    decay = log_decay.exp()
    if is_doc_start is not None:
        decay = decay.masked_fill(is_doc_start[..., None], 0.0)
    if initial_state is None:
        initial_state = zero_state(k, v)
    inputs = (q, k, v, decay[..., None], beta[..., None], initial_state)
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return _CPUGatedDeltaRule.apply(*(x.contiguous() for x in inputs), needs_grad)
