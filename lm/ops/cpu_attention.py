"""Causal attention on a CPU in blocks of queries, from one fused projection.

torch's CPU flash kernel computes whole key blocks of 512, twice the necessary work at the lengths of these papers.
Here each block of queries gets only the keys it can see, and gradients are written directly into the gradient of the
fused projection. Tests compare it with scaled_dot_product_attention.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128  # queries; smaller blocks do less work but need more calls
# private names of torch; without them attention uses scaled_dot_product_attention
_forward: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_backward: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)
AVAILABLE = _forward is not None and _backward is not None


@cache
def _mask(size: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.full((size, size), -torch.inf).triu(1)


def causal_mask(length: int) -> Tensor:
    """Additive causal mask (T, T): 0 where a query may see a key, else -inf."""
    return _mask(1 << (length - 1).bit_length())[:length, :length]  # one cached table per power of two


def apply_rotary_out(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """lm.layers.positions.apply_rotary of x (..., R or more) written to `out`, without autograd."""
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    if x.shape[-1] > 2 * half:
        out[..., 2 * half :] = x[..., 2 * half :]


class BlockAttention(torch.autograd.Function):
    """qkv (B, T, 3H, d), additive mask (T, T) or (B or 1, H or 1, T, T), rotary angles or None to (B, T, H, d)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, mask: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        heads, length = qkv.shape[2] // 3, qkv.shape[1]
        qk = qkv[:, :, : 2 * heads]
        if cos is not None and sin is not None:
            rotated = torch.empty_like(qk, memory_format=torch.contiguous_format)
            apply_rotary_out(qk, cos, sin, rotated)
            qk = rotated
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
        dqkv = grad.new_empty(rows, length, 3 * heads, width)
        dq, dk, dv = dqkv.transpose(1, 2).chunk(3, 1)
        grad = grad.transpose(1, 2)
        for number in reversed(range(len(mixed))):  # the last block sees all keys: it fills dk and dv
            a, b = number * BLOCK, min((number + 1) * BLOCK, length)
            block_inputs = (q[:, :, a:b], k[:, :, :b], v[:, :, :b], mixed[number], sums[number], 0.0, False)
            gq, gk, gv = _backward(grad[:, :, a:b], *block_inputs, attn_mask=mask[..., a:b, :b])
            dq[:, :, a:b] = gq
            if b == length:
                dk.copy_(gk)
                dv.copy_(gv)
            else:
                dk[:, :, :b] += gk
                dv[:, :, :b] += gv
        if cos is not None:
            qk = dqkv[:, :, : 2 * heads]
            apply_rotary_out(qk.clone(), cos, -sin, qk)
        return dqkv, None, None, None


def block_attention(
    qkv: Float[Tensor, "B T three_H d"], mask: Tensor | None, angles: tuple[Tensor, Tensor] | None
) -> Float[Tensor, "B T H d"]:
    """Causal attention, in fp32 on a CPU, of a fused projection: heads of queries, then of keys, then of values.

    mask: boolean (B, 1, T, T), or additive (1 or B, H, T, T); None: causal.
    """
    if mask is None:
        mask = causal_mask(qkv.shape[1])
    elif mask.dtype == torch.bool:
        mask = qkv.new_zeros(()).where(mask, -torch.inf)
    cos, sin = angles or (None, None)
    return BlockAttention.apply(qkv, mask, cos, sin)
