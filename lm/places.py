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
    distance embeddings that the layers of relative and position_only models share.
    """

    index: Tensor
    allowed: Tensor | None = None
    angles: tuple[Tensor, Tensor] | None = None
    distances: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """Which keys (last dimension) each query may see: (T, T), or (B, 1, T, T) with several documents a row."""
        return self.allowed if self.allowed is not None else self.index[:, None] >= self.index


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
    x: Float[Tensor, "*B T H R"], cos: Float[Tensor, "*C T 1 r"], sin: Float[Tensor, "*C T 1 r"]
) -> Float[Tensor, "*B T H R"]:
    """Turn the first 2r coordinates of every head by its position's angles; coordinate i turns with i + r."""
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1)
