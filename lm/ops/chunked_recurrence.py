"""Gated linear recurrences in chunks of matrix products (arXiv 2312.06635, section 4, and 2405.21060, section 6).

Names and shapes are those of lm/ops/linear_recurrence.py. Within a chunk the decay from token s to t is written as E_t
/ E_s, where E = exp(sum of decay from the chunk's middle on). One factor goes to the query and one to the key, or to
the output and the value where a head decays as a whole, so that nothing but products of matrices remains. Chunks are so
short that no factor leaves the range of fp32, and the state goes from chunk to chunk.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm.ops.decay_gates import Borders, ChannelGate, Gate, HeadGate, Layout, times

LENGTHS = (16, 64)  # tokens in a chunk: the width of a key, where products within and across chunks cost the same
SHORTEST = 4  # where some decay is so strong that longer chunks would leave the range
RANGE = 40.0  # factors lie within exp(+-RANGE), so that the product of two is still finite in fp32


@torch.compiler.disable  # the length of the chunks depends on the decays
def chunked(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    decay: Tensor | None = None,
    fresh: Bool[Tensor, "B T"] | None = None,
    state: Float[Tensor, "B H K V"] | None = None,
    longest: int | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the last state in fp32, in chunks of at most `longest` tokens (a power of two; see LENGTHS).

    A decay below exp(-20) = 2e-9 per token counts as that.
    """
    longest = longest or min(max(1 << (k.shape[3] - 1).bit_length(), LENGTHS[0]), LENGTHS[1])
    with torch.autocast(v.device.type, enabled=False):
        decay = None if decay is None else decay.float()
        return Chunks.apply(q.float(), k.float(), v.float(), decay, fresh, state, chunk_length(decay, longest))


def chunk_length(decay: Tensor | None, longest: int) -> int:
    """The longest chunk, a power of two, over half of which no sum of decays can leave the range.

    The shortest for decays that are not numbers: beside a model that has diverged (lm.ensemble.train_many) others may
    need it.
    """
    if decay is None or not decay.numel():
        return longest
    steepest, size = -decay.detach().amin().item(), longest
    while size > SHORTEST and not steepest * size / 2 <= RANGE:
        size //= 2
    return size


def carry(update: Tensor, through: Tensor | None, first: Tensor | None, back: bool = False) -> Tensor:
    """(B, N + 1, G, K, X): `first` (None: 0), then each time the last times `through` plus `update` (B, N, G, K, X).

    back: from the end to the beginning.
    """
    chunks = update.shape[1]
    states = update.new_empty(len(update), chunks + 1, *update.shape[2:])
    states[:, chunks if back else 0] = 0.0 if first is None else first
    for n in reversed(range(chunks)) if back else range(chunks):
        last, new = (states[:, n + 1], states[:, n]) if back else (states[:, n], states[:, n + 1])
        if through is None:
            torch.add(update[:, n], last, out=new)
        else:
            torch.addcmul(update[:, n], last, through[:, n], out=new)
    return states


class Chunks(torch.autograd.Function):
    """`chunked` with chunks of a given size."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, fresh: Tensor | None, state: Tensor | None,
        size: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.layout = layout = Layout(v, q.shape[2], size)
        ctx.decays = None if decay is None else decay.shape
        ctx.gate = gate = make_gate(decay, layout)
        ctx.borders = borders = Borders(fresh, layout, v.device)
        through = times(gate.through, borders.through) if gate.through is not None else borders.through
        ctx.through = None if through is None else layout.apart(through)
        q, k, v = gate.enter(layout.cut(q), layout.cut(k), layout.cut(v))
        scores = torch.bmm(q, k.mT).mul_(borders.mask)
        update = times(torch.bmm(times(k, borders.kept).mT, v), gate.onto)
        states = carry(layout.apart(update), ctx.through, layout.together(state))
        past = times(states[:, :-1].flatten(0, 2), gate.into)
        out = torch.bmm(scores, v).baddbmm_(times(q, borders.open), past)
        ctx.save_for_backward(q, k, v, out, scores, past, states)
        return layout.heads(layout.join(gate.leave(out))), layout.split(states[:, -1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, last: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, scores, past, states = ctx.saved_tensors
        layout, gate, borders = ctx.layout, ctx.gate, ctx.borders
        dout = torch.zeros_like(v) if grad is None else gate.leave(layout.cut(grad.contiguous()))
        dscores = torch.bmm(dout, v.mT).mul_(borders.mask)
        dpast = times(torch.bmm(times(q, borders.open).mT, dout), gate.into)
        dstates = carry(layout.apart(dpast), ctx.through, layout.together(last), back=True)
        after = dstates[:, 1:].flatten(0, 2)
        dupdate = times(after, gate.onto)
        dq = times(torch.bmm(dout, past.mT), borders.open).baddbmm_(dscores, k)
        dk = times(torch.bmm(v, dupdate.mT), borders.kept).baddbmm_(dscores.mT, q)
        dv = torch.bmm(times(k, borders.kept), dupdate).baddbmm_(scores.mT, dout)
        passed = states[:, 1:].flatten(0, 2), after
        dq, dk, dv, ddecay = gate.gradients((q, k, v, out), passed, dq, dk, dv, dout)
        if ddecay is not None:
            ddecay = layout.join(ddecay).reshape(ctx.decays)
        dstate = layout.split(dstates[:, 0]) if ctx.needs_input_grad[5] else None
        return layout.join(dq), layout.join(dk), layout.heads(layout.join(dv)), ddecay, None, dstate, None


def make_gate(decay: Tensor | None, layout: Layout) -> Gate:
    """The gate for the form of the decays."""
    if decay is None:
        return Gate()
    pieces = layout.cut(decay).clamp_min(-2 * RANGE / SHORTEST)
    return ChannelGate(pieces) if decay.ndim == 4 else HeadGate(pieces, layout.depth)
