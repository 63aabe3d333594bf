"""Where every token of a batch sits: its position in its document, and which tokens it may see.

Rotary angles follow GPT-NeoX (arXiv 2104.09864 in the half-split form), the positions of Part 1's GPT_rot.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lm.config import ModelConfig


@dataclass(frozen=True)
class Places:
    """What all layers of one forward pass share.

    index (T,) or (B, T): position within the document; allowed (B, 1, T, T): may query i see key j (None: all j <= i);
    angles: cosines and sines, each (T, 1, R/2) or (B, T, 1, R/2), for rotary models; distances (N, D): the table of
    distance embeddings that the layers of relative and position_only models share; bias (1 or B, H, Q, T): what alibi
    adds to the scores of the last Q queries, -inf where a head may not look, in another document above all.
    """

    index: Tensor
    allowed: Tensor | None = None
    angles: tuple[Tensor, Tensor] | None = None
    distances: Tensor | None = None
    bias: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """Which keys (last dimension) each query may see: (T, T), or (B, 1, T, T) with several documents a row."""
        return self.allowed if self.allowed is not None else self.index[:, None] >= self.index

    @property
    def mask(self) -> Tensor | None:
        """What scaled_dot_product_attention takes: permission, or numbers to add; None: all earlier tokens."""
        return self.allowed if self.bias is None else self.bias

    def upto(self, length: int) -> "Places":
        """The places of the first `length` tokens of rows with one document each."""
        angles = (self.angles[0][:length], self.angles[1][:length]) if self.angles is not None else None
        bias = self.bias[..., :length, :length] if self.bias is not None else None
        return Places(self.index[:length], None, angles, self.distances, bias)


@cache
def angle_table(length: int, width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, 1, width/2) in fp32. Not a buffer: it is recomputed, never saved or loaded."""
    with torch.inference_mode(False), torch.no_grad():
        rates = base ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
        angles = torch.arange(length, device=device, dtype=torch.float32)[:, None, None] * rates
        return angles.cos(), angles.sin()


def angles_at(config: ModelConfig, index: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Rows of the angle table for positions `index`, all smaller than `length`."""
    room = 1 << (length - 1).bit_length()  # a power of two, so that growing sequences seldom need a new table
    cos, sin = angle_table(room, config.rotary_width, config.rotary_base, index.device)
    return cos[index], sin[index]


def locate(
    config: ModelConfig, length: int, documents: Int[Tensor, "B T"] | None, device: torch.device
) -> tuple[Int[Tensor, "*B T"], Bool[Tensor, "B 1 T T"] | None]:
    """Positions and permission. documents (B, T) numbers every token's document; equal numbers must be adjacent."""
    steps = torch.arange(length, device=device)
    if documents is None:
        return steps, None if config.causal else torch.ones(1, 1, length, length, dtype=torch.bool, device=device)
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    begin = torch.where(first, steps, 0).cummax(1).values
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return steps - begin, same & (steps[:, None] >= steps) if config.causal else same


def rotate(
    x: Float[Tensor, "*B T H R"], cos: Float[Tensor, "*C T _ r"], sin: Float[Tensor, "*C T _ r"]
) -> Float[Tensor, "*B T H R"]:
    """Turn the first 2r coordinates of every head by its position's angles; coordinate i turns with i + r.

    The angles are those of all heads (_ = 1) or each head has its own.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1)


def for_heads(table: Float[Tensor, "*B T 1 r"], turned: int, heads: int, still: float) -> Float[Tensor, "*B T N r"]:
    """A table of cosines (still=1) or sines (still=0) for queries and keys, of which only the first heads turn."""
    one = torch.cat([table.expand(*table.shape[:-2], turned, -1), table.new_full((), still).expand(
        *table.shape[:-2], heads - turned, table.shape[-1])], -2)  # fmt: skip
    return torch.cat((one, one), -2)


def bias_at(
    config: ModelConfig, start: int, length: int, device: torch.device, allowed: Bool[Tensor, "B 1 T T"] | None = None
) -> Float[Tensor, "_ H Q T"]:
    """What alibi and half_alibi add to the scores of queries start..length-1, -inf where a head may not look.

    alibi (arXiv 2108.12409): head h of 1..H takes off 2^(-8h/H) for each token of distance. half_alibi (Part 4.1,
    arXiv 2512.17351): heads h of the first half see h tokens, their own the last of them, the others everything.
    """
    steps = torch.arange(length, device=device)
    distance = (steps[start:, None] - steps).expand(config.heads, -1, -1)
    hidden = (distance < 0)[None] if allowed is None else ~allowed[:, :, start:]
    head = torch.arange(1, config.heads + 1, device=device)[:, None, None]
    if config.positions == "alibi":
        slopes = 2.0 ** (-8 * head / config.heads)
        return (-slopes * distance)[None].masked_fill(hidden, -torch.inf)
    narrow = (distance >= head) & (head <= config.heads // 2)
    return torch.zeros_like(distance, dtype=torch.float32)[None].masked_fill(narrow | hidden, -torch.inf)
