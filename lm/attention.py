"""Softmax attention, and the contract that every token mixer keeps. Scaled dot products: arXiv 1706.03762."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.kernel import AVAILABLE, block_attention
from lm.places import Places, rotate


class State(dict[str, Tensor]):
    """What one mixer remembers of the tokens so far: tensors whose first dimension is the row of the batch.

    `fixed` holds what does not depend on the row (tables computed once for a generation).
    """

    def __init__(self, rows: dict[str, Tensor], fixed: dict[str, Any] | None = None) -> None:
        super().__init__(rows)
        self.fixed = fixed or {}

    def keep(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        for name, tensor in self.items():
            self[name] = tensor[rows]


class Mixer(nn.Module):
    """A layer that moves information between tokens. A subclass defines three methods and its cost.

    forward: all positions at once, and when `state` is given, remember them there;
    state: an empty memory for `rows` sequences of at most `length` tokens;
    step: one more token, the t-th (from 0), of every sequence.

    One whose output is out(weights @ values), head by head, also defines weights(x, places), (B, H, T, T): nothing that
    trains or generates needs them, so the other methods may never hold them.
    """

    attention_flops = 0  # matmul FLOPs of one token and layer in the forward pass are this times D times T

    def forward(self, x: Tensor, places: Places, state: State | None = None) -> Tensor:
        raise NotImplementedError

    def state(self, rows: int, length: int, places: Places) -> State:
        raise NotImplementedError

    def step(self, x: Tensor, state: State, t: int, places: Places) -> Tensor:
        raise NotImplementedError


def _in_blocks(x: Tensor) -> bool:
    """Whether the CPU's block attention can take this input."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return AVAILABLE and plain and not torch.compiler.is_compiling()


class SoftmaxAttention(Mixer):
    """Softmax attention over the content, rotated by position when the model is rotary. Parameters: 4 D^2 (+ 4 D)."""

    attention_flops = 4

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_width, self.causal = config.heads, config.head_width, config.causal
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.out = nn.Linear(config.width, config.width, bias=config.bias)

    def project(self, x: Float[Tensor, "*B T D"], places: Places) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., H, T, d), the first two rotated where the model is."""
        qkv = self.qkv(x).unflatten(-1, (3 * self.heads, self.head_width))
        qk, v = qkv.split((2 * self.heads, self.heads), -2)
        if places.angles is not None:
            qk = rotate(qk, *places.angles)
        q, k = qk.transpose(-3, -2).chunk(2, -3)
        return q, k, v.transpose(-3, -2)

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        if state is None and self.causal and _in_blocks(x):
            qkv = self.qkv(x).unflatten(-1, (3 * self.heads, self.head_width))
            return self.out(block_attention(qkv, places.allowed, places.angles).flatten(2))
        q, k, v = self.project(x, places)
        if state is not None:
            state["k"][:, :, : x.shape[1]], state["v"][:, :, : x.shape[1]] = k, v
        mixed = F.scaled_dot_product_attention(q, k, v, places.allowed, is_causal=places.allowed is None)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], places: Places) -> Float[Tensor, "B H T T"]:
        """How much of each key's value goes to each query, in fp32; 0 where a query may not look."""
        q, k, _ = self.project(x, places)
        scores = (q.float() * self.head_width**-0.5) @ k.float().mT
        return scores.masked_fill(~places.seen, -torch.inf).softmax(-1)

    def state(self, rows: int, length: int, places: Places) -> State:
        shape = (rows, self.heads, length, self.head_width)
        like = self.qkv.weight
        return State({"k": like.new_empty(shape), "v": like.new_empty(shape)})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        q, k, v = self.project(x[:, None], places)
        state["k"][:, :, t], state["v"][:, :, t] = k[:, :, 0], v[:, :, 0]
        # two products beat scaled_dot_product_attention where one query meets many keys
        weights = ((q * self.head_width**-0.5) @ state["k"][:, :, : t + 1].mT).softmax(-1)
        mixed = weights @ state["v"][:, :, : t + 1]
        return self.out(mixed.transpose(1, 2).flatten(1))
