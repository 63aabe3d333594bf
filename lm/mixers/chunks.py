"""Gated linear recurrences in chunks of matrix products (arXiv 2312.06635, section 4, and 2405.21060, section 6).

Names and shapes are those of lm/mixers/scan.py. Within a chunk the decay from token s to t is written as E_t / E_s,
where E = exp(sum of decay from the chunk's middle on). One factor goes to the query and one to the key, or to the
output and the value where a head decays as a whole, so that nothing but products of matrices remains. Chunks are so
short that no factor leaves the range of fp32, and the state goes from chunk to chunk.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    """The longest chunk, a power of two, over half of which no sum of decays can leave the range."""
    if decay is None or not decay.numel():
        return longest
    steepest, size = -decay.detach().amin().item(), longest
    while size > SHORTEST and steepest * size / 2 > RANGE:
        size //= 2
    return size


@cache
def causal(size: int, device: torch.device) -> Tensor:
    """1 where a token of a chunk (row) may look at another (column), else 0."""
    with torch.inference_mode(False):
        return torch.ones(size, size, device=device).tril()


@dataclass(frozen=True)
class Layout:
    """Between (B, T, G, X) and (M, C, X) for M = B N G pieces: N chunks of C tokens, the last filled up with zeros."""

    rows: int
    length: int
    groups: int
    size: int

    def cut(self, x: Tensor) -> Tensor:
        x = x.reshape(self.rows, self.length, self.groups, -1)
        if self.length % self.size:
            x = F.pad(x, (0, 0, 0, 0, 0, -self.length % self.size))
        return x.unflatten(1, (-1, self.size)).transpose(2, 3).flatten(0, 2)

    def join(self, x: Tensor) -> Tensor:
        return self.apart(x).transpose(2, 3).flatten(1, 2)[:, : self.length]

    def apart(self, x: Tensor) -> Tensor:
        """(M, ...) as (B, N, G, ...)."""
        return x.unflatten(0, (self.rows, -1, self.groups))

    def together(self, state: Tensor) -> Tensor:
        """A state (B, H, K, V) as (B, G, K, X), the heads of a group side by side."""
        return state.unflatten(1, (self.groups, -1)).transpose(2, 3).flatten(3)

    def split(self, state: Tensor, depth: int) -> Tensor:
        """Back to (B, H, K, V), V = depth."""
        return state.unflatten(-1, (-1, depth)).transpose(2, 3).flatten(1, 2)


class Gate:
    """The factors that the decays of a chunk fall into.

    scale, inverse (M, C, X): E and 1 / E. Of the state, (M, K, 1) or (M, 1, X): into: how much of it is left in the
    middle of the chunk; through: at the end; onto: how much of what the middle knows.
    """

    def __init__(self, decay: Tensor, spread: int) -> None:
        """decay (M, C, K), or (M, C, R) for heads whose values each have `spread` channels."""
        total = decay.clamp_min(-2 * RANGE / SHORTEST).cumsum(1)
        middle, end = total[:, total.shape[1] // 2, None], total[:, -1:]
        self.scale = (total - middle).exp_()
        self.inverse = self.scale.reciprocal()
        marks = torch.cat((middle, end, end - middle), 1).exp_()
        marks = marks.repeat_interleave(spread, -1)[:, :, None] if spread else marks[..., None]
        self.into, self.through, self.onto = marks.unbind(1)


class Borders:
    """What documents that begin within the chunks cut off.

    mask (M, C, C): what a token may look at; open (M, C, 1): it sees the state before the chunk; kept (M, C, 1): the
    state after the chunk sees it; through (M, 1, 1): the chunk lets the state pass. 1 or 0 each.
    """

    def __init__(self, fresh: Tensor, layout: Layout) -> None:
        number = layout.cut(fresh[:, :, None].expand(-1, -1, layout.groups).float()).cumsum(1)
        self.mask = (number == number.mT) * causal(layout.size, fresh.device)
        self.open, self.kept = (number == 0).float(), (number == number[:, -1:]).float()
        self.through = self.open[:, -1:]


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """x (M, C, R V) with a factor (M, C, R) for every head."""
    return (x.unflatten(-1, (factor.shape[-1], -1)) * factor[..., None]).flatten(-2)


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
    """`chunked` with chunks of a given size. Half of it is layout: see `forward` for the formulas."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, fresh: Tensor | None, state: Tensor | None,
        size: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.layout = layout = Layout(len(v), v.shape[1], q.shape[2], size)
        ctx.depth = v.shape[3]
        ctx.by_head = decay is not None and decay.ndim == 3
        ctx.gate = gate = None if decay is None else Gate(layout.cut(decay), ctx.depth if ctx.by_head else 0)
        ctx.borders = borders = None if fresh is None else Borders(fresh, layout)
        q, k, v = layout.cut(q), layout.cut(k), layout.cut(v)
        if gate is not None:
            q, k, v = (q, k, scaled(v, gate.inverse)) if ctx.by_head else (q * gate.scale, k * gate.inverse, v)
        scores = torch.bmm(q, k.mT).mul_(causal(size, v.device) if borders is None else borders.mask)
        update = torch.bmm((k if borders is None else k * borders.kept).mT, v)
        if gate is not None:
            update *= gate.onto
        before = carry(layout.apart(update), _through(ctx), None if state is None else layout.together(state))
        past = before[:, :-1].flatten(0, 2)
        if gate is not None:
            past = past * gate.into
        out = torch.bmm(scores, v).baddbmm_(q if borders is None else q * borders.open, past)
        if gate is not None and ctx.by_head:
            out = scaled(out, gate.scale)
        ctx.save_for_backward(q, k, v, scores, past, before, out if ctx.by_head else None)
        return _heads(layout.join(out), ctx.depth), layout.split(before[:, -1], ctx.depth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, last: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, scores, past, before, out = ctx.saved_tensors
        layout, gate, borders = ctx.layout, ctx.gate, ctx.borders
        dout = torch.zeros_like(v) if grad is None else layout.cut(grad.contiguous())
        dgate = None if out is None else _per_head(out * dout, ctx.depth)
        if ctx.by_head:
            dout = scaled(dout, gate.scale)
        dscores = torch.bmm(dout, v.mT).mul_(causal(layout.size, v.device) if borders is None else borders.mask)
        dpast = torch.bmm((q if borders is None else q * borders.open).mT, dout)
        if gate is not None:
            dpast *= gate.into
        after = carry(layout.apart(dpast), _through(ctx), None if last is None else layout.together(last), back=True)
        onward = after[:, 1:].flatten(0, 2)
        dupdate = onward if gate is None else onward * gate.onto
        seen, taken = torch.bmm(dout, past.mT), torch.bmm(v, dupdate.mT)
        if borders is not None:
            seen, taken = seen * borders.open, taken * borders.kept
        dq = seen.baddbmm_(dscores, k)
        dk = taken.baddbmm_(dscores.mT, q)
        dv = torch.bmm(k if borders is None else k * borders.kept, dupdate).baddbmm_(scores.mT, dout)
        ddecay = None
        if gate is not None:
            passed = onward * before[:, 1:].flatten(0, 2)  # what the last token's sum of decays does to the state
            if ctx.by_head:
                dgate = dgate - _per_head(v * dv, ctx.depth)
                passed = _per_head(passed.sum(1, keepdim=True), ctx.depth)
                dv = scaled(dv, gate.inverse)
            else:
                dgate = q * dq - k * dk
                passed = passed.sum(-1)[:, None]
                dq, dk = dq * gate.scale, dk * gate.inverse
            later = causal(layout.size, v.device).T.expand(len(dgate), -1, -1)
            ddecay = layout.join(torch.bmm(later, dgate) + passed)
            if ctx.by_head:
                ddecay = ddecay.flatten(2)
        dstate = layout.split(after[:, 0], ctx.depth) if ctx.needs_input_grad[5] else None
        return layout.join(dq), layout.join(dk), _heads(layout.join(dv), ctx.depth), ddecay, None, dstate, None


def _through(ctx: Any) -> Tensor | None:
    parts = [x.through for x in (ctx.gate, ctx.borders) if x is not None]
    if not parts:
        return None
    return ctx.layout.apart(parts[0] if len(parts) == 1 else parts[0] * parts[1])


def _heads(x: Tensor, depth: int) -> Tensor:
    return x.unflatten(-1, (-1, depth)).flatten(2, 3)


def _per_head(x: Tensor, depth: int) -> Tensor:
    return x.unflatten(-1, (-1, depth)).sum(-1)
