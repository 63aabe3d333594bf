"""Disentangled relative attention (DeBERTa, arXiv 2006.03654, section 3.1): GPT_rel of Part 1, section 4."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.layers.context import SequenceContext
from lm.layers.positions import distance_projection
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer


class RelativeAttention(Mixer):
    """score(i, j) = (q_i.k_j + q_i.kr_(i-j) + qr_(i-j).k_j) / sqrt(3 d), with kr, qr projected distance embeddings.

    As in DeBERTa, all layers share the table of distance embeddings (N, D) and each projects it. Parameters: 6 D^2
    (+ 6 D biases).
    """

    attention_flops = 8

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.n_heads, config.d_head
        self.scale = 1 / math.sqrt(3 * self.head_width)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.distance_qk = distance_projection(nn.Linear(config.d_model, 2 * config.d_model, bias=config.bias))
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model, bias=config.bias))

    def _split_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (parts, self.heads, self.head_width)).movedim(-3, 0).transpose(-3, -2).unbind(0)

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        length = x.shape[1]
        q, k, v = self._split_heads(self.qkv(x), 3)
        if cache is not None:
            cache["k"][:, :, :length], cache["v"][:, :, :length] = k, v
        weights = self._weights(q, k, context)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], context: SequenceContext) -> Float[Tensor, "B H T T"]:
        """Attention weights."""
        q, k, _ = self._split_heads(self.qkv(x), 3)
        return self._weights(q, k, context)

    def _weights(self, q: Tensor, k: Tensor, context: SequenceContext) -> Tensor:
        assert context.distances is not None
        qr, kr = self._split_heads(self.distance_qk(context.distances[: q.shape[-2]]), 2)
        scores = q @ k.mT + align_to_queries(q @ kr.flip(1).mT) + align_to_keys(k @ qr.mT)
        return (scores * self.scale).masked_fill(~context.visible, -math.inf).softmax(-1)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        assert context.distances is not None
        shape = (rows, self.heads, length, self.head_width)
        like = self.qkv.weight
        qr, kr = self._split_heads(self.distance_qk(context.distances[:length].flip(0)), 2)
        return LayerCache({"k": like.new_empty(shape), "v": like.new_empty(shape)}, {"qr": qr, "kr": kr.mT})

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        q, k, v = self._split_heads(self.qkv(x), 3)  # each (H, B, d): the batch takes the place of T
        cache["k"][:, :, t], cache["v"][:, :, t] = k.transpose(0, 1), v.transpose(0, 1)
        qr, kr = cache.fixed["qr"][:, -t - 1 :], cache.fixed["kr"][..., -t - 1 :]  # distances t, t-1, ..., 0
        query = (q.transpose(0, 1)[:, :, None] + qr) * self.scale
        scores = (query * cache["k"][:, :, : t + 1]).sum(-1) + ((q @ kr) * self.scale).transpose(0, 1)
        mixed = scores.softmax(-1)[:, :, None] @ cache["v"][:, :, : t + 1]
        return self.out(mixed.flatten(1))


def align_to_queries(x: Float[Tensor, "*B T T"]) -> Float[Tensor, "*B T T"]:
    """Move entry (i, T-1-distance) to (i, j) with distance = i - j; entries above the diagonal are undefined.

    Padding one column in front and reshaping shifts row i by T-1-i, without a gather.
    """
    length = x.shape[-1]
    return F.pad(x, (1, 0)).view(*x.shape[:-2], length + 1, length)[..., 1:, :]


def align_to_keys(x: Float[Tensor, "*B T T"]) -> Float[Tensor, "*B T T"]:
    """Move entry (j, distance) to (i, j) with distance = i - j; entries above the diagonal are undefined."""
    length = x.shape[-1]
    return F.pad(x, (0, 1)).flatten(-2)[..., : length * length].view(x.shape).mT
