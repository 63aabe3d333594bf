"""Factors by which decays and document boundaries enter the matrix products of lm/ops/chunked_recurrence.py."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]


class ChunkLayout:
    """Reshapes (B, T, G, X) to M = B N G chunks (M, C, X) and back: N chunks of C tokens a row, the last zero-padded.

    X is the width K of a key, or R V for the values of the R heads of a group, concatenated.
    """

    def __init__(self, v: Tensor, groups: int, size: int) -> None:
        self.rows, self.length, self.depth, self.groups, self.size = len(v), v.shape[1], v.shape[3], groups, size

    def to_chunks(self, x: Tensor) -> Tensor:
        """Chunks (M, C, X) of keys (B, T, G, K), values (B, T, H, V) or one number per head (B, T, H)."""
        x = x.reshape(self.rows, self.length, self.groups, -1)
        if self.length % self.size:
            x = F.pad(x, (0, 0, 0, 0, 0, -self.length % self.size))
        return x.unflatten(1, (-1, self.size)).transpose(2, 3).flatten(0, 2)

    def from_chunks(self, x: Tensor) -> Tensor:
        """Chunks (M, C, X) as (B, T, G, X), without the padding."""
        return self.split_batch(x).transpose(2, 3).flatten(1, 2)[:, : self.length]

    def split_batch(self, x: Tensor) -> Tensor:
        """(M, ...) as (B, N, G, ...)."""
        return x.unflatten(0, (self.rows, -1, self.groups))

    def split_value_heads(self, x: Tensor) -> Tensor:
        """Values (B, T, G, X) as (B, T, H, V)."""
        return x.unflatten(-1, (-1, self.depth)).flatten(2, 3)

    def merge_heads(self, state: Tensor | None) -> Tensor | None:
        """A state (B, H, K, V) as (B, G, K, X), the heads of a group concatenated."""
        return None if state is None else state.unflatten(1, (self.groups, -1)).transpose(2, 3).flatten(3)

    def split_heads(self, state: Tensor) -> Tensor:
        """The inverse of `merge_heads`: (B, G, K, X) as (B, H, K, V)."""
        return state.unflatten(-1, (-1, self.depth)).transpose(2, 3).flatten(1, 2)


@cache
def lower_triangle(size: int, device: torch.device) -> Tensor:
    """Causal mask (C, C) of a chunk: 1 where query i (row) may see key j (column), else 0."""
    with torch.inference_mode(False):
        return torch.ones(size, size, device=device).tril()


def scale_by(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else x * factor


class Gate:
    """No decay; base class of the gates.

    decay_to_middle, decay_chunk, decay_middle_to_end, each (M, K, 1) or (M, 1, X): decay of the state from start to
    middle, start to end and middle to end of the chunk; None: no decay.
    """

    decay_to_middle: Tensor | None = None
    decay_chunk: Tensor | None = None
    decay_middle_to_end: Tensor | None = None

    def scale_inputs(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v (M, C, X) scaled by their decay factors."""
        return q, k, v

    def scale_outputs(self, out: Tensor) -> Tensor:
        """Outputs, or gradients of outputs, (M, C, X) scaled by their decay factors."""
        return out

    def gradients(
        self, scaled_inputs: tuple[Tensor, ...], final_state_and_grad: tuple[Tensor, Tensor], *grads: Tensor
    ) -> Gradients:
        """Gradients of the unscaled q, k, v and of log_decay (None without decay).

        scaled_inputs: q, k, v, and the outputs before `scale_outputs`; grads: their gradients; final_state_and_grad:
        the state after the chunk and its gradient. exp(sum of log decays up to token t) multiplies query t (or output
        t) and divides key t (or value t), so the gradient of that sum is q dq - k dk (or out dout - v dv); the sum over
        the whole chunk multiplies the state as well.
        """
        dq, dk, dv, _ = grads
        return dq, dk, dv, None

    def _set_scales(self, log_decay: Tensor) -> Tensor:
        """Set scale E and inverse 1 / E; return the three decays of the state as (M, 3, K or R)."""
        total = log_decay.cumsum(1)
        middle, end = total[:, total.shape[1] // 2, None], total[:, -1:]
        self.scale = (total - middle).exp_()
        self.inverse = self.scale.reciprocal()
        return torch.cat((middle, end, end - middle), 1).exp_()


def _suffix_sums(sums: Tensor, last: Tensor) -> Tensor:
    """Gradients (M, C, X) of log decays from those of their cumulative sums; last (M, 1, X): that of the whole sum."""
    later = lower_triangle(sums.shape[1], sums.device).T
    return torch.bmm(later.expand(len(sums), -1, -1), sums) + last


class ChannelGate(Gate):
    """One decay per key channel: log_decay (M, C, K)."""

    def __init__(self, log_decay: Tensor) -> None:
        decays = self._set_scales(log_decay)[..., None]
        self.decay_to_middle, self.decay_chunk, self.decay_middle_to_end = decays.unbind(1)

    def scale_inputs(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q * self.scale, k * self.inverse, v

    def gradients(
        self, scaled_inputs: tuple[Tensor, ...], final_state_and_grad: tuple[Tensor, Tensor], *grads: Tensor
    ) -> Gradients:
        (q, k, _, _), (dq, dk, dv, _) = scaled_inputs, grads
        last = (final_state_and_grad[0] * final_state_and_grad[1]).sum(-1)[:, None]
        return dq * self.scale, dk * self.inverse, dv, _suffix_sums(q * dq - k * dk, last)


class HeadGate(Gate):
    """One decay per head: log_decay (M, C, R) for the R heads of a group; depth: width V of a head's values."""

    def __init__(self, log_decay: Tensor, depth: int) -> None:
        self.depth = depth
        decays = self._set_scales(log_decay).repeat_interleave(depth, -1)[:, :, None]
        self.decay_to_middle, self.decay_chunk, self.decay_middle_to_end = decays.unbind(1)

    def scale_inputs(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, self._scale_values(v, self.inverse)

    def scale_outputs(self, out: Tensor) -> Tensor:
        return self._scale_values(out, self.scale)

    def gradients(
        self, scaled_inputs: tuple[Tensor, ...], final_state_and_grad: tuple[Tensor, Tensor], *grads: Tensor
    ) -> Gradients:
        (_, _, v, out), (dq, dk, dv, dout) = scaled_inputs, grads
        sums = self._sum_values(out * dout) - self._sum_values(v * dv)
        last = self._sum_values((final_state_and_grad[0] * final_state_and_grad[1]).sum(1, keepdim=True))
        return dq, dk, self._scale_values(dv, self.inverse), _suffix_sums(sums, last)

    def _scale_values(self, x: Tensor, factor: Tensor) -> Tensor:
        return (x.unflatten(-1, (-1, self.depth)) * factor[..., None]).flatten(-2)

    def _sum_values(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.depth)).sum(-1)


class DocumentMask:
    """Which tokens and states of a chunk belong to one document; entries are 1 or 0, None means 1 everywhere.

    mask (C, C) or (M, C, C): query i may see key j; sees_prev_state (M, C, 1): the token sees the state before the
    chunk; reaches_end (M, C, 1): the token contributes to the state after the chunk; passes_state (M, 1, 1): the state
    before the chunk contributes to the one after it.
    """

    sees_prev_state: Tensor | None = None
    reaches_end: Tensor | None = None
    passes_state: Tensor | None = None

    def __init__(self, is_doc_start: Tensor | None, layout: ChunkLayout, device: torch.device) -> None:
        self.mask = lower_triangle(layout.size, device)
        if is_doc_start is None:
            return
        number = layout.to_chunks(is_doc_start[:, :, None].expand(-1, -1, layout.groups).float()).cumsum(1)
        self.mask = (number == number.mT) * self.mask
        self.sees_prev_state, self.reaches_end = (number == 0).float(), (number == number[:, -1:]).float()
        self.passes_state = self.sees_prev_state[:, -1:]
