"""Causal attention on a CPU in blocks of queries, from one fused projection.

torch's CPU flash kernel computes all keys up to its key block of 512, and so does twice the causal work at the lengths
of these papers. Here each block of queries is given only the keys it can see, and the gradients are written straight
into the gradient of the fused projection. The same numbers as scaled_dot_product_attention, which tests hold it to.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128  # queries; smaller saves more work in theory and loses it in calls
# private names of torch: where a version lacks them, attention falls back to scaled_dot_product_attention
_forward: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_backward: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
AVAILABLE = _forward is not None and _backward is not None


@cache
def _mask(room: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.full((room, room), -torch.inf).triu(1)


def causal_mask(length: int) -> Tensor:
    """0 where a query may see a key and -inf where not, (T, T)."""
    return _mask(1 << (length - 1).bit_length())[:length, :length]  # few tables, whatever lengths there are


def turn(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Rotary turn of x (..., R or more) into out, in place of `rotate` where no graph is wanted."""
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    if x.shape[-1] > 2 * half:
        out[..., 2 * half :] = x[..., 2 * half :]


class BlockAttention(torch.autograd.Function):
    """qkv (B, T, 3H, d), mask (T, T) or (B or 1, H or 1, T, T) additive, rotary angles or None -> (B, T, H, d)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, mask: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        heads, length = qkv.shape[2] // 3, qkv.shape[1]
        qk = qkv[:, :, : 2 * heads]
        if cos is not None and sin is not None:
            turned = torch.empty_like(qk, memory_format=torch.contiguous_format)
            turn(qk, cos, sin, turned)
            qk = turned
        q, k = qk.transpose(1, 2).chunk(2, 1)
        v = qkv[:, :, 2 * heads :].transpose(1, 2)
        mixed, sums = [], []
        for a in range(0, length, BLOCK):
            b = min(a + BLOCK, length)
            part, total = _forward(q[:, :, a:b], k[:, :, :b], v[:, :, :b], attn_mask=mask[..., a:b, :b])
            mixed.append(part)
            sums.append(total)
        ctx.save_for_backward(q, k, v, mask, cos, sin, *mixed, *sums)
        return torch.cat([part.transpose(1, 2) for part in mixed], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        q, k, v, mask, cos, sin, *parts = ctx.saved_tensors
        mixed, sums = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        rows, heads, length, width = q.shape
        whole = grad.new_empty(rows, length, 3 * heads, width)
        dq, dk, dv = whole.transpose(1, 2).chunk(3, 1)
        grad = grad.transpose(1, 2)
        for number in reversed(range(len(mixed))):  # the last block sees all keys, so it fills what the others add to
            a, b = number * BLOCK, min((number + 1) * BLOCK, length)
            seen = (q[:, :, a:b], k[:, :, :b], v[:, :, :b], mixed[number], sums[number], 0.0, False)
            gq, gk, gv = _backward(grad[:, :, a:b], *seen, attn_mask=mask[..., a:b, :b])
            dq[:, :, a:b] = gq
            if b == length:
                dk.copy_(gk)
                dv.copy_(gv)
            else:
                dk[:, :, :b] += gk
                dv[:, :, :b] += gv
        if cos is not None:
            qk = whole[:, :, : 2 * heads]
            turn(qk.clone(), cos, -sin, qk)
        return whole, None, None, None


def block_attention(
    qkv: Float[Tensor, "B T three_H d"], mask: Tensor | None, angles: tuple[Tensor, Tensor] | None
) -> Float[Tensor, "B T H d"]:
    """Causal attention of a fused projection whose first third are queries, then keys, then values; fp32 on a CPU.

    mask: permission (B, 1, T, T), or numbers to add to the scores (1 or B, H, T, T); None: all earlier tokens.
    """
    if mask is None:
        mask = causal_mask(qkv.shape[1])
    elif mask.dtype == torch.bool:
        mask = qkv.new_zeros(()).where(mask, -torch.inf)
    cos, sin = angles or (None, None)
    return BlockAttention.apply(qkv, mask, cos, sin)
