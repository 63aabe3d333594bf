"""Attention that never looks at content: GPT_pos and GPT_uni of Part 1 (arXiv 2305.13673, section 4.1)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.positions import Places
from lm.mixers.base import Mixer


class PositionAttention(Mixer):
    """The attention matrix is a trainable function of distance and head only.

    Head h of a layer scores distance d by u_h . E_d, with one vector u_h per layer and head and a table E (N, D) of
    unit normal distance embeddings shared by all layers. Parameters: 2 D^2 + H D (+ 2 D).
    """

    attention_flops = 2

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.distance = nn.Linear(config.width, config.heads, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def scores(self, places: Places, length: int) -> Float[Tensor, "H T"]:
        """The score of every distance 0..T-1, in fp32."""
        assert places.distances is not None
        return self.distance(places.distances[:length]).float().T

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        v = self.value(x)
        if state is not None:
            state["v"][:, : x.shape[1]] = v
        weights = self._weights(places, x.shape[1]).to(v.dtype)
        return self.out((weights @ v.unflatten(-1, (self.heads, -1)).transpose(1, 2)).transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], places: Places) -> Float[Tensor, "B H T T"]:
        """How much of each key's value goes to each query, in fp32: the same in every row with the same documents."""
        return self._weights(places, x.shape[1]).expand(len(x), -1, -1, -1)

    def _weights(self, places: Places, length: int) -> Float[Tensor, "*B H T T"]:
        steps = torch.arange(length, device=places.index.device)
        scores = self.scores(places, length)[:, (steps[:, None] - steps).clamp_min(0)]
        return scores.masked_fill(~places.seen, -math.inf).softmax(-1)

    def state(self, rows: int, length: int, places: Places) -> State:
        v = self.value.weight.new_empty(rows, length, self.value.out_features)
        return State({"v": v}, {"scores": self.scores(places, length).flip(1)})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        state["v"][:, t] = self.value(x)
        weights = state.fixed["scores"][:, -t - 1 :].softmax(-1)
        v = state["v"][:, : t + 1].unflatten(-1, (self.heads, -1))
        return self.out(torch.einsum("ht,bthd->bhd", weights.to(v.dtype), v).flatten(1))


class UniformAttention(Mixer):
    """Head h = 1..H averages uniformly over the current token and the previous 2^h - 1. Parameters: 2 D^2 (+ 2 D).

    Part 1's text and its author's slides give different windows; this is the slides' reading, counted with the token
    itself. A window of 2w tokens is two windows of w, so H doublings do it in O(T) per head without a matrix.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.value = nn.Linear(config.width, config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def _windows(self, index: Tensor) -> Tensor:
        """How many tokens each head averages: (..., H)."""
        return torch.minimum(index[..., None] + 1, 2 ** torch.arange(1, self.heads + 1, device=index.device))

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        v = self.value(x)
        if state is not None:
            state["v"][:, : x.shape[1]] = v
        total, done = v.unflatten(-1, (self.heads, -1)).float(), []
        for head in range(self.heads):
            total = _double(total, 2**head, places)
            done.append(total[:, :, 0])
            total = total[:, :, 1:]
        means = torch.stack(done, 2) / self._windows(places.index)[..., None]
        return self.out(means.flatten(2).to(v.dtype))

    def weights(self, x: Float[Tensor, "B T D"], places: Places) -> Float[Tensor, "B H T T"]:
        """The matrix that `forward` never needs: 1/n at each of the n tokens that a head averages, in fp32."""
        windows = self._windows(places.index).movedim(-1, -2)[..., None]
        steps = torch.arange(x.shape[1], device=x.device)
        inside = places.seen & (steps[:, None] - steps < windows)
        return (inside / windows).expand(len(x), -1, -1, -1)

    def state(self, rows: int, length: int, places: Places) -> State:
        like = self.value.weight
        return State({"v": like.new_empty(rows, length, self.value.out_features)})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        state["v"][:, t] = self.value(x)
        v = state["v"].unflatten(-1, (self.heads, -1))
        means = [v[:, max(0, t + 1 - 2 ** (h + 1)) : t + 1, h].mean(1) for h in range(self.heads)]
        return self.out(torch.cat(means, -1))


def _double(total: Tensor, width: int, places: Places) -> Tensor:
    """Sums over 2 `width` tokens from sums over `width` tokens (B, T, h, d), none reaching before its document."""
    if width >= total.shape[1]:
        return total
    earlier = total[:, :-width]
    if places.allowed is not None:
        earlier = earlier * (places.index[:, width:] >= width)[..., None, None]
    return torch.cat((total[:, :width], total[:, width:] + earlier), 1)
