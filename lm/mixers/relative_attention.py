"""Disentangled relative attention (DeBERTa, arXiv 2006.03654, section 3.1): the GPT_rel of Part 1, section 4."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.positions import Places
from lm.mixers.base import Mixer


class RelativeAttention(Mixer):
    """score(i, j) = (q_i.k_j + q_i.kr_(i-j) + qr_(i-j).k_j) / sqrt(3 d), with kr, qr projected distance embeddings.

    The table of distance embeddings (N, D) is shared by the layers, as in DeBERTa; each layer has its own two
    projections of it. Parameters: 6 D^2 (+ 6 D).
    """

    attention_flops = 8

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.scale = 1 / math.sqrt(3 * self.head_width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.distance_qk = nn.Linear(config.width, 2 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.unflatten(-1, (parts, self.heads, self.head_width)).movedim(-3, 0).transpose(-3, -2).unbind(0)

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        length = x.shape[1]
        q, k, v = self._split(self.qkv(x), 3)
        if state is not None:
            state["k"][:, :, :length], state["v"][:, :, :length] = k, v
        weights = self._weights(q, k, places)
        return self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], places: Places) -> Float[Tensor, "B H T T"]:
        """How much of each key's value goes to each query; 0 where a query may not look."""
        q, k, _ = self._split(self.qkv(x), 3)
        return self._weights(q, k, places)

    def _weights(self, q: Tensor, k: Tensor, places: Places) -> Tensor:
        assert places.distances is not None
        qr, kr = self._split(self.distance_qk(places.distances[: q.shape[-2]]), 2)
        scores = q @ k.mT + by_query(q @ kr.flip(1).mT) + by_key(k @ qr.mT)
        return (scores * self.scale).masked_fill(~places.seen, -math.inf).softmax(-1)

    def state(self, rows: int, length: int, places: Places) -> State:
        assert places.distances is not None
        shape = (rows, self.heads, length, self.head_width)
        like = self.qkv.weight
        qr, kr = self._split(self.distance_qk(places.distances[:length].flip(0)), 2)
        return State({"k": like.new_empty(shape), "v": like.new_empty(shape)}, {"qr": qr, "kr": kr.mT})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        q, k, v = self._split(self.qkv(x), 3)  # each (H, B, d): the row of the batch stands where time does
        state["k"][:, :, t], state["v"][:, :, t] = k.transpose(0, 1), v.transpose(0, 1)
        qr, kr = state.fixed["qr"][:, -t - 1 :], state.fixed["kr"][..., -t - 1 :]  # distances t, t-1, ..., 0
        query = (q.transpose(0, 1)[:, :, None] + qr) * self.scale
        scores = (query * state["k"][:, :, : t + 1]).sum(-1) + ((q @ kr) * self.scale).transpose(0, 1)
        mixed = scores.softmax(-1)[:, :, None] @ state["v"][:, :, : t + 1]
        return self.out(mixed.flatten(1))


def by_query(x: Float[Tensor, "*B T T"]) -> Float[Tensor, "*B T T"]:
    """From entry (i, T-1-distance) to entry (i, j) with distance = i - j; what lies above the diagonal is arbitrary.

    One column in front and a new cut into rows moves row i by T-1-i places, without a gather.
    """
    length = x.shape[-1]
    return F.pad(x, (1, 0)).view(*x.shape[:-2], length + 1, length)[..., 1:, :]


def by_key(x: Float[Tensor, "*B T T"]) -> Float[Tensor, "*B T T"]:
    """From entry (j, distance) to entry (i, j) with distance = i - j; what lies above the diagonal is arbitrary."""
    length = x.shape[-1]
    return F.pad(x, (0, 1)).flatten(-2)[..., : length * length].view(x.shape).mT
