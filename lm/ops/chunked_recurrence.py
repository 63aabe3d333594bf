"""Chunkwise-parallel gated linear recurrence (arXiv 2312.06635, section 4, and 2405.21060, section 6).

Names and shapes are those of lm/ops/linear_recurrence.py. Within a chunk the decay from token s to t is written as E_t
/ E_s, where E = exp(sum of log_decay from the chunk's middle on). One factor goes to the query and one to the key, or
to the output and the value where a head has one decay, so that only matrix products remain. Chunks are short enough
that no factor overflows fp32; the state passes from chunk to chunk.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lm.ops.decay_gates import ChannelGate, ChunkLayout, DocumentMask, Gate, HeadGate, scale_by

CHUNK_LENGTHS = (16, 64)  # bounds of the default K, where products within and across chunks cost the same
MIN_CHUNK_LENGTH = 4  # for decays so strong that longer chunks would overflow
MAX_LOG_FACTOR = 40.0  # factors lie within exp(+-MAX_LOG_FACTOR), so that the product of two is still finite in fp32
MIN_LOG_DECAY = -2 * MAX_LOG_FACTOR / MIN_CHUNK_LENGTH  # stronger ones, below 2e-9 a token, are clamped to it


# not compiled, as the length of the chunks depends on the decays; torch.compiler.disable imports the compiler for it
@torch._disable_dynamo
def chunk_linear_recurrence(
    q: Float[Tensor, "B T G K"],
    k: Float[Tensor, "B T G K"],
    v: Float[Tensor, "B T H V"],
    log_decay: Tensor | None = None,
    is_doc_start: Bool[Tensor, "B T"] | None = None,
    initial_state: Float[Tensor, "B H K V"] | None = None,
    max_size: int | None = None,
) -> tuple[Float[Tensor, "B T H V"], Float[Tensor, "B H K V"]]:
    """Outputs and the final state in fp32; max_size: tokens, a power of two (None: see CHUNK_LENGTHS).

    Decays below exp(MIN_LOG_DECAY) a token are clamped to that.
    """
    max_size = max_size or min(max(1 << (k.shape[3] - 1).bit_length(), CHUNK_LENGTHS[0]), CHUNK_LENGTHS[1])
    with torch.autocast(v.device.type, enabled=False):
        log_decay = None if log_decay is None else log_decay.float()
        size = chunk_length(log_decay, max_size)
        return ChunkedRecurrence.apply(q.float(), k.float(), v.float(), log_decay, is_doc_start, initial_state, size)


def chunk_length(log_decay: Tensor | None, max_size: int) -> int:
    """Largest power of two up to max_size for which no factor exceeds exp(MAX_LOG_FACTOR).

    MIN_CHUNK_LENGTH for NaN decays: the training loop must see the loss of a model that diverged, not an exception.
    """
    if log_decay is None or not log_decay.numel():
        return max_size
    steepest, size = -log_decay.detach().amin().item(), max_size
    while size > MIN_CHUNK_LENGTH and not steepest * size / 2 <= MAX_LOG_FACTOR:
        size //= 2
    return size


def pass_states(update: Tensor, decay: Tensor | None, first: Tensor | None, back: bool = False) -> Tensor:
    """States at all chunk boundaries (B, N + 1, G, K, X): s_0 = first (None: 0), s_(n+1) = decay_n s_n + update_n.

    update: (B, N, G, K, X); decay: broadcastable to it, None for 1; back: run from the last chunk to the first.
    """
    chunks = update.shape[1]
    states = update.new_empty(len(update), chunks + 1, *update.shape[2:])
    states[:, chunks if back else 0] = 0.0 if first is None else first
    for n in reversed(range(chunks)) if back else range(chunks):
        last, new = (states[:, n + 1], states[:, n]) if back else (states[:, n], states[:, n + 1])
        if decay is None:
            torch.add(update[:, n], last, out=new)
        else:
            torch.addcmul(update[:, n], last, decay[:, n], out=new)
    return states


class ChunkedRecurrence(torch.autograd.Function):
    """`chunk_linear_recurrence` with chunks of a given size."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, is_doc_start: Tensor | None,
        initial_state: Tensor | None, size: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.layout = layout = ChunkLayout(v, q.shape[2], size)
        ctx.decays = None if log_decay is None else log_decay.shape
        ctx.gate = gate = make_gate(log_decay, layout)
        ctx.doc_mask = doc_mask = DocumentMask(is_doc_start, layout, v.device)
        decay = doc_mask.passes_state if gate.decay_chunk is None else scale_by(gate.decay_chunk, doc_mask.passes_state)
        ctx.decay = None if decay is None else layout.split_batch(decay)
        q, k, v = gate.scale_inputs(layout.to_chunks(q), layout.to_chunks(k), layout.to_chunks(v))
        scores = torch.bmm(q, k.mT).mul_(doc_mask.mask)
        update = scale_by(torch.bmm(scale_by(k, doc_mask.reaches_end).mT, v), gate.decay_middle_to_end)
        states = pass_states(layout.split_batch(update), ctx.decay, layout.merge_heads(initial_state))
        past = scale_by(states[:, :-1].flatten(0, 2), gate.decay_to_middle)
        out = torch.bmm(scores, v).baddbmm_(scale_by(q, doc_mask.sees_prev_state), past)
        ctx.save_for_backward(q, k, v, out, scores, past, states)
        return layout.split_value_heads(layout.from_chunks(gate.scale_outputs(out))), layout.split_heads(states[:, -1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, last: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, scores, past, states = ctx.saved_tensors
        layout, gate, doc_mask = ctx.layout, ctx.gate, ctx.doc_mask
        dout = torch.zeros_like(v) if grad is None else gate.scale_outputs(layout.to_chunks(grad.contiguous()))
        dscores = torch.bmm(dout, v.mT).mul_(doc_mask.mask)
        dpast = scale_by(torch.bmm(scale_by(q, doc_mask.sees_prev_state).mT, dout), gate.decay_to_middle)
        dstates = pass_states(layout.split_batch(dpast), ctx.decay, layout.merge_heads(last), back=True)
        after = dstates[:, 1:].flatten(0, 2)
        dupdate = scale_by(after, gate.decay_middle_to_end)
        dq = scale_by(torch.bmm(dout, past.mT), doc_mask.sees_prev_state).baddbmm_(dscores, k)
        dk = scale_by(torch.bmm(v, dupdate.mT), doc_mask.reaches_end).baddbmm_(dscores.mT, q)
        dv = torch.bmm(scale_by(k, doc_mask.reaches_end), dupdate).baddbmm_(scores.mT, dout)
        final_state_and_grad = states[:, 1:].flatten(0, 2), after
        dq, dk, dv, ddecay = gate.gradients((q, k, v, out), final_state_and_grad, dq, dk, dv, dout)
        if ddecay is not None:
            ddecay = layout.from_chunks(ddecay).reshape(ctx.decays)
        dstate = layout.split_heads(dstates[:, 0]) if ctx.needs_input_grad[5] else None
        dv = layout.split_value_heads(layout.from_chunks(dv))
        return layout.from_chunks(dq), layout.from_chunks(dk), dv, ddecay, None, dstate, None


def make_gate(log_decay: Tensor | None, layout: ChunkLayout) -> Gate:
    """The gate for log decays (B, T, H, K), (B, T, H) or None."""
    if log_decay is None:
        return Gate()
    pieces = layout.to_chunks(log_decay).clamp_min(MIN_LOG_DECAY)
    return ChannelGate(pieces) if log_decay.ndim == 4 else HeadGate(pieces, layout.depth)
