"""Softmax attention (arXiv 1706.03762)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.layers.canon import canon_for, empty_canon_caches
from lm.layers.context import SequenceContext
from lm.layers.positions import apply_rotary, pad_unrotated_heads
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer
from lm.ops.cpu_attention import AVAILABLE, block_attention
from lm.ops.cpu_dispatch import can_use_cpu_kernels

Angles = tuple[Tensor, Tensor]


class SoftmaxAttention(Mixer):
    """Multi-head softmax attention, with rotary embeddings if positions=rotary. Parameters: 4 D^2 (+ 4 D biases).

    QK norms (2 D) and Canon B on queries, keys and values (3 D kernel) precede the rotation (Part 4.1, arXiv
    2512.17351).
    """

    attention_flops = 4
    supports_bidirectional = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_width, self.causal = config.n_heads, config.d_head, config.causal
        self.num_rotary_heads = config.n_rotary_heads
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.q_norm = nn.RMSNorm(config.d_model, eps=1e-6) if config.qk_norm else None
        self.k_norm = nn.RMSNorm(config.d_model, eps=1e-6) if config.qk_norm else None
        self.canon_b = canon_for(config, "B", 3 * config.d_model)
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model, bias=config.bias))

    def project_qkv(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B three_D"]:
        """Queries, keys and values of all heads, concatenated; with qk_norm queries and keys are RMS-normalized."""
        qkv = self.qkv(x)
        if self.q_norm is None or self.k_norm is None:
            return qkv
        q, k, v = qkv.chunk(3, -1)
        kind = self.q_norm.weight.dtype  # fp32 under autocast too, where torch fuses a norm in fp32 only
        normed = (self.q_norm(q.to(kind)), self.k_norm(k.to(kind)))
        return torch.cat((*(x.to(v.dtype) for x in normed), v), -1)

    def project_heads(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T three_H d"]:
        """Queries, keys and values per head, after Canon B and before the rotation."""
        qkv = self.project_qkv(x)
        if self.canon_b is not None:
            qkv = self.canon_b(qkv, context, cache)
        return qkv.unflatten(-1, (3 * self.heads, self.head_width))

    def angles(self, context: SequenceContext) -> Angles | None:
        """Cosines and sines for the heads of queries and keys; angle 0 for heads that are not rotated."""
        if context.angles is None or self.num_rotary_heads == self.heads:
            return context.angles
        cos, sin = context.angles
        return pad_unrotated_heads(cos, self.num_rotary_heads, self.heads, 1.0), pad_unrotated_heads(
            sin, self.num_rotary_heads, self.heads, 0.0
        )

    def split(self, qkv: Float[Tensor, "B T three_H d"], context: SequenceContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, d); queries and keys rotated if positions=rotary."""
        qk, v = qkv.split((2 * self.heads, self.heads), -2)
        angles = self.angles(context)
        if angles is not None:
            qk = apply_rotary(qk, *angles)
        q, k = qk.transpose(-3, -2).chunk(2, -3)
        return q, k, v.transpose(-3, -2)

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        qkv = self.project_heads(x, context, cache)
        if cache is None and self.causal and AVAILABLE and can_use_cpu_kernels(x):
            return self.out(block_attention(qkv, context.mask, self.angles(context)).flatten(2))
        q, k, v = self.split(qkv, context)
        if cache is not None:
            cache["k"][:, :, : x.shape[1]], cache["v"][:, :, : x.shape[1]] = k, v
        mask = context.mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], context: SequenceContext) -> Float[Tensor, "B H T T"]:
        """Attention weights in fp32."""
        q, k, _ = self.split(self.project_heads(x, context), context)
        scores = (q.float() * self.head_width**-0.5) @ k.float().mT
        if context.bias is not None:
            scores = scores + context.bias
        return scores.masked_fill(~context.visible, -torch.inf).softmax(-1)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        shape = (rows, self.heads, length, self.head_width)
        like = self.qkv.weight
        return LayerCache(
            {"k": like.new_empty(shape), "v": like.new_empty(shape), **empty_canon_caches(rows, self.canon_b)}
        )

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        qkv = self.project_qkv(x)
        if self.canon_b is not None:
            qkv = self.canon_b.step(qkv, cache)
        q, k, v = self.split(qkv.unflatten(-1, (3 * self.heads, self.head_width))[:, None], context)
        cache["k"][:, :, t], cache["v"][:, :, t] = k[:, :, 0], v[:, :, 0]
        # for a single query two matmuls are faster than scaled_dot_product_attention
        scores = (q * self.head_width**-0.5) @ cache["k"][:, :, : t + 1].mT
        weights = (scores if context.bias is None else scores + context.bias).softmax(-1)
        mixed = weights.to(v.dtype) @ cache["v"][:, :, : t + 1]
        return self.out(mixed.transpose(1, 2).flatten(1))
