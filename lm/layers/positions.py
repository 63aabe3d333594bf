"""Position encodings: rotary embeddings, ALiBi and distance embeddings.

Rotary embeddings (arXiv 2104.09864) in GPT-NeoX's half-split form, as in Part 1's GPT_rot.
"""

from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lm.config import ModelConfig


@cache
def rotary_table(length: int, width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, 1, width/2) in fp32; cached, as it is no buffer of a model."""
    with torch.inference_mode(False), torch.no_grad():
        rates = base ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
        angles = torch.arange(length, device=device, dtype=torch.float32)[:, None, None] * rates
        return angles.cos(), angles.sin()


def rotary_angles(config: ModelConfig, index: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (*index.shape, 1, R/2), of positions `index` < length."""
    size = 1 << (length - 1).bit_length()  # a power of two, so that growing sequences seldom need a new table
    cos, sin = rotary_table(size, config.rotary_dim, config.rotary_base, index.device)
    return cos[index], sin[index]


def apply_rotary(
    x: Float[Tensor, "*B T H R"], cos: Float[Tensor, "*C T _ r"], sin: Float[Tensor, "*C T _ r"]
) -> Float[Tensor, "*B T H R"]:
    """Rotate the first 2r coordinates of every head, coordinate i paired with i + r, by its position's angles.

    The angles are shared by all heads (_ = 1) or given per head.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), -1).to(x.dtype)


def pad_unrotated_heads(
    table: Float[Tensor, "*B T 1 r"], num_rotary_heads: int, heads: int, value: float
) -> Float[Tensor, "*B T N r"]:
    """Expand cosines (value=1) or sines (value=0) to all N = 2 H heads of queries and keys; heads from
    num_rotary_heads on get `value`, the angle 0."""
    one = torch.cat([table.expand(*table.shape[:-2], num_rotary_heads, -1), table.new_full((), value).expand(
        *table.shape[:-2], heads - num_rotary_heads, table.shape[-1])], -2)  # fmt: skip
    return torch.cat((one, one), -2)


def alibi_bias(
    config: ModelConfig, start: int, length: int, device: torch.device, allowed: Bool[Tensor, "B 1 T T"] | None = None
) -> Float[Tensor, "_ H Q T"]:
    """Attention bias of queries start..length-1 for alibi and half_alibi; -inf where a head may not see a key.

    alibi (arXiv 2108.12409): head h of 1..H subtracts 2^(-8h/H) per token of distance. half_alibi (Part 4.1, arXiv
    2512.17351): each head h of the first half sees the last h tokens, the current one included; the others see all.
    """
    steps = torch.arange(length, device=device)
    distance = (steps[start:, None] - steps).expand(config.n_heads, -1, -1)
    hidden = (distance < 0)[None] if allowed is None else ~allowed[:, :, start:]
    head = torch.arange(1, config.n_heads + 1, device=device)[:, None, None]
    if config.positions == "alibi":
        slopes = 2.0 ** (-8 * head / config.n_heads)
        return (-slopes * distance)[None].masked_fill(hidden, -torch.inf)
    narrow = (distance >= head) & (head <= config.n_heads // 2)
    return torch.zeros_like(distance, dtype=torch.float32)[None].masked_fill(narrow | hidden, -torch.inf)


def distance_projection(linear: nn.Linear) -> nn.Linear:
    """Mark a layer that projects the table of distance embeddings: it costs FLOPs once per batch, not per token."""
    linear.projects_distances = True  # type: ignore[assignment]
    return linear


def is_distance_projection(module: nn.Module) -> bool:
    """Whether a module was marked by `distance_projection`."""
    return getattr(module, "projects_distances", False)
