"""Attention that depends on positions only: GPT_pos and GPT_uni of Part 1 (arXiv 2305.13673, section 4.1)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.layers.context import SequenceContext
from lm.layers.positions import distance_projection
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer


class PositionAttention(Mixer):
    """Attention whose scores are a trained function of head and distance: head h scores distance d by u_h . E_d.

    u_h: a vector per layer and head; E (N, D): distance embeddings, initially standard normal, shared by all layers.
    Parameters: 2 D^2 + H D (+ 2 D biases).
    """

    attention_flops = 2

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.n_heads
        self.distance = distance_projection(nn.Linear(config.d_model, config.n_heads, bias=False))
        self.value = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model, bias=config.bias))

    def scores(self, context: SequenceContext, length: int) -> Float[Tensor, "H T"]:
        """Score of every distance 0..T-1, in fp32."""
        assert context.distances is not None
        return self.distance(context.distances[:length]).float().T

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        v = self.value(x)
        if cache is not None:
            cache["v"][:, : x.shape[1]] = v
        weights = self._weights(context, x.shape[1]).to(v.dtype)
        return self.out((weights @ v.unflatten(-1, (self.heads, -1)).transpose(1, 2)).transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], context: SequenceContext) -> Float[Tensor, "B H T T"]:
        """Attention weights in fp32."""
        return self._weights(context, x.shape[1]).expand(len(x), -1, -1, -1)

    def _weights(self, context: SequenceContext, length: int) -> Float[Tensor, "*B H T T"]:
        steps = torch.arange(length, device=context.index.device)
        scores = self.scores(context, length)[:, (steps[:, None] - steps).clamp_min(0)]
        return scores.masked_fill(~context.visible, -math.inf).softmax(-1)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        v = self.value.weight.new_empty(rows, length, self.value.out_features)
        return LayerCache({"v": v}, {"scores": self.scores(context, length).flip(1)})

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        cache["v"][:, t] = self.value(x)
        weights = cache.fixed["scores"][:, -t - 1 :].softmax(-1)
        v = cache["v"][:, : t + 1].unflatten(-1, (self.heads, -1))
        return self.out(torch.einsum("ht,bthd->bhd", weights.to(v.dtype), v).flatten(1))


class UniformAttention(Mixer):
    """Head h = 1..H averages the values of the last 2^h tokens. Parameters: 2 D^2 (+ 2 D biases).

    Part 1's text and its author's slides give different windows; these are the slides'. A window of 2w tokens is the
    sum of two windows of w, so doubling computes all heads in O(T) each, without an attention matrix.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.n_heads
        self.value = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model, bias=config.bias))

    def _windows(self, index: Tensor) -> Tensor:
        """Number of tokens that each head averages (..., H)."""
        return torch.minimum(index[..., None] + 1, 2 ** torch.arange(1, self.heads + 1, device=index.device))

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        v = self.value(x)
        if cache is not None:
            cache["v"][:, : x.shape[1]] = v
        total, done = v.unflatten(-1, (self.heads, -1)).float(), []
        for head in range(self.heads):
            total = _double(total, 2**head, context)
            done.append(total[:, :, 0])
            total = total[:, :, 1:]
        means = torch.stack(done, 2) / self._windows(context.index)[..., None]
        return self.out(means.flatten(2).to(v.dtype))

    def weights(self, x: Float[Tensor, "B T D"], context: SequenceContext) -> Float[Tensor, "B H T T"]:
        """Attention weights in fp32: 1/n for each of the n tokens that a head averages."""
        windows = self._windows(context.index).movedim(-1, -2)[..., None]
        steps = torch.arange(x.shape[1], device=x.device)
        inside = context.visible & (steps[:, None] - steps < windows)
        return (inside / windows).expand(len(x), -1, -1, -1)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        like = self.value.weight
        return LayerCache({"v": like.new_empty(rows, length, self.value.out_features)})

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        cache["v"][:, t] = self.value(x)
        v = cache["v"].unflatten(-1, (self.heads, -1))
        means = [v[:, max(0, t + 1 - 2 ** (h + 1)) : t + 1, h].mean(1) for h in range(self.heads)]
        return self.out(torch.cat(means, -1))


def _double(total: Tensor, width: int, context: SequenceContext) -> Tensor:
    """Sums over the last 2 `width` tokens from sums over `width` tokens (B, T, h, d), within documents."""
    if width >= total.shape[1]:
        return total
    earlier = total[:, :-width]
    if context.allowed is not None:
        earlier = earlier * (context.index[:, width:] >= width)[..., None, None]
    return torch.cat((total[:, :width], total[:, width:] + earlier), 1)
