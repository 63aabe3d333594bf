"""The gated delta rule token by token on a CPU, many sequences side by side in the lanes of vector registers.

At the sizes of laptop experiments a head's state has a few hundred numbers and chunks make many small products, so the
recurrence itself is cheapest when LANES sequences and heads take each of its steps at once. The backward pass computes
the states again from one in every SPAN tokens. The same numbers as `in_chunks`, which tests hold it to.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm.ops.cpu_delta_rule_kernels import LANES, SPAN, backward, forward
from lm.ops.gated_delta_rule import empty


class _Lanes(torch.autograd.Function):
    """q, k (B, T, H, K), v (B, T, H, V), decay, rate (B, T, H, 1), initial (B, H, K, V); if a gradient is wanted."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        *inputs, initial, wanted = given
        batch, length, heads, key = inputs[0].shape
        spans = -(-length // SPAN) if wanted else 0
        marks = initial.new_empty(-(-batch * heads // LANES), spans, key, initial.shape[3], LANES)
        out, final = torch.empty_like(inputs[2]), torch.empty_like(initial)
        forward(*(x.detach().numpy() for x in (*inputs, initial, out, final, marks)))
        ctx.save_for_backward(*inputs, marks)
        return out, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor, dfinal: Tensor) -> tuple[Tensor | None, ...]:
        given = (*ctx.saved_tensors, dout.contiguous(), dfinal.contiguous())
        grads = [torch.empty_like(x) for x in (*given[:5], dfinal)]
        backward(*(x.detach().numpy() for x in (*given, *grads)))
        return *grads, None


def in_lanes(
    q: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Float[Tensor, "B T H"],
    rate: Float[Tensor, "B T H"],
    begins: Bool[Tensor, "B T"] | None = None,
    initial: Float[Tensor, "B H K V"] | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """The gated delta rule in fp32 on a CPU; queries and keys of any length, which are brought to length 1."""
    decay = log_decay.exp()
    if begins is not None:
        decay = decay.masked_fill(begins[..., None], 0.0)
    if initial is None:
        initial = empty(k, v)
    given = (q, k, v, decay[..., None], rate[..., None], initial)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    return _Lanes.apply(*(x.contiguous() for x in given), wanted)
