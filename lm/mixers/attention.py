"""Softmax attention. Scaled dot products: arXiv 1706.03762."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.canon import canon_for, memories
from lm.layers.positions import Places, for_heads, rotate
from lm.mixers.base import Mixer
from lm.ops.cpu_attention import AVAILABLE, block_attention
from lm.ops.cpu_dispatch import is_plain

Angles = tuple[Tensor, Tensor]


class SoftmaxAttention(Mixer):
    """Softmax attention over the content, rotated by position when the model is rotary. Parameters: 4 D^2 (+ 4 D).

    Before the rotation come the norms of queries and keys (2 D) and a Canon layer on all projections (3 D kernel),
    where the model has them (Part 4.1, arXiv 2512.17351).
    """

    attention_flops = 4
    encodes = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_width, self.causal = config.heads, config.head_width, config.causal
        self.turned = config.turned_heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.q_norm = nn.RMSNorm(config.width, eps=1e-6) if config.qk_norm else None
        self.k_norm = nn.RMSNorm(config.width, eps=1e-6) if config.qk_norm else None
        self.canon_b = canon_for(config, "B", 3 * config.width)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def projected(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B three_D"]:
        """Queries, keys and values of all heads side by side, the first two normed where the model is."""
        qkv = self.qkv(x)
        if self.q_norm is None or self.k_norm is None:
            return qkv
        q, k, v = qkv.chunk(3, -1)
        normed = (self.q_norm(q.float()), self.k_norm(k.float()))  # under autocast torch fuses a norm in fp32 only
        return torch.cat((*(x.to(v.dtype) for x in normed), v), -1)

    def fused(
        self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None
    ) -> Float[Tensor, "B T three_H d"]:
        """The same head by head, after Canon, before the rotation."""
        qkv = self.projected(x)
        if self.canon_b is not None:
            qkv = self.canon_b(qkv, places, state)
        return qkv.unflatten(-1, (3 * self.heads, self.head_width))

    def angles(self, places: Places) -> Angles | None:
        """The angles of queries and keys: those of the places, or 0 for the heads that are not turned."""
        if places.angles is None or self.turned == self.heads:
            return places.angles
        cos, sin = places.angles
        return for_heads(cos, self.turned, self.heads, 1.0), for_heads(sin, self.turned, self.heads, 0.0)

    def split(self, qkv: Float[Tensor, "B T three_H d"], places: Places) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, d), the first two rotated where the model is."""
        qk, v = qkv.split((2 * self.heads, self.heads), -2)
        angles = self.angles(places)
        if angles is not None:
            qk = rotate(qk, *angles)
        q, k = qk.transpose(-3, -2).chunk(2, -3)
        return q, k, v.transpose(-3, -2)

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        qkv = self.fused(x, places, state)
        if state is None and self.causal and AVAILABLE and is_plain(x):
            return self.out(block_attention(qkv, places.mask, self.angles(places)).flatten(2))
        q, k, v = self.split(qkv, places)
        if state is not None:
            state["k"][:, :, : x.shape[1]], state["v"][:, :, : x.shape[1]] = k, v
        mask = places.mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], places: Places) -> Float[Tensor, "B H T T"]:
        """How much of each key's value goes to each query, in fp32; 0 where a query may not look."""
        q, k, _ = self.split(self.fused(x, places), places)
        scores = (q.float() * self.head_width**-0.5) @ k.float().mT
        if places.bias is not None:
            scores = scores + places.bias
        return scores.masked_fill(~places.seen, -torch.inf).softmax(-1)

    def state(self, rows: int, length: int, places: Places) -> State:
        shape = (rows, self.heads, length, self.head_width)
        like = self.qkv.weight
        return State({"k": like.new_empty(shape), "v": like.new_empty(shape), **memories(rows, self.canon_b)})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        qkv = self.projected(x)
        if self.canon_b is not None:
            qkv = self.canon_b.step(qkv, state)
        q, k, v = self.split(qkv.unflatten(-1, (3 * self.heads, self.head_width))[:, None], places)
        state["k"][:, :, t], state["v"][:, :, t] = k[:, :, 0], v[:, :, 0]
        # two products beat scaled_dot_product_attention where one query meets many keys
        scores = (q * self.head_width**-0.5) @ state["k"][:, :, : t + 1].mT
        weights = (scores if places.bias is None else scores + places.bias).softmax(-1)
        mixed = weights @ state["v"][:, :, : t + 1]
        return self.out(mixed.transpose(1, 2).flatten(1))
