"""Canon layers (Physics of Language Models, Part 4.1, arXiv 2512.17351, section 4): causal depthwise convolutions.

c_t = sum over j of w_j * h_(t-j) per channel, without bias, within the document. Weights are in the order of torch's
Conv1d: the last column is that of the token itself.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.layers.context import SequenceContext
from lm.ops.cpu_conv1d import convolve as cpu_convolve
from lm.ops.cpu_dispatch import can_use_cpu_kernels

Place = Literal["A", "B", "C", "D"]


class Canon(nn.Module):
    """h + c (with residual) or c, where `activation` replaces c by SiLU(c). Parameters: channels * kernel.

    learnable=False: the random weights are a buffer and stay fixed (cst-Canon). key: name in the block's LayerCache.
    """

    weight: Tensor

    def __init__(
        self,
        channels: int,
        kernel: int = 4,
        residual: bool = True,
        activation: bool = False,
        learnable: bool = True,
        key: str = "canon_a",
    ) -> None:
        super().__init__()
        self.kernel, self.residual, self.activation, self.key = kernel, residual, activation, key
        weight = torch.empty(channels, kernel)
        if learnable:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)

    def init_parameter(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """Uniform within 1 / sqrt(kernel) as in Conv1d; init_std would be too small for learning."""
        bound = 1 / math.sqrt(self.kernel)
        parameter.uniform_(-bound, bound, generator=generator)
        return True

    def forward(
        self, x: Float[Tensor, "B T C"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T C"]:
        """All positions at once, each document separately; stores the last inputs in `cache`."""
        if cache is not None:
            cache[self.key] = F.pad(x, (0, 0, self.kernel - 1, 0))[:, x.shape[1] :]
        identity = 1.0 if self.residual and not self.activation else 0.0
        if can_use_cpu_kernels(x):
            mixed = cpu_convolve(x, self.weight, context.index, identity)
        else:
            mixed = convolve(x, self.weight, context.index if context.allowed is not None else None, identity)
        return self._activate(x, mixed)

    def empty_cache(self, rows: int) -> dict[str, Tensor]:
        """Cache of `rows` empty sequences: the last kernel - 1 inputs, zeros."""
        return {self.key: self.weight.new_zeros(rows, self.kernel - 1, len(self.weight))}

    def step(self, x: Float[Tensor, "B C"], cache: LayerCache) -> Float[Tensor, "B C"]:
        """Output for one more token of every sequence; updates `cache`."""
        window = torch.cat((cache[self.key], x[:, None]), 1)
        cache[self.key] = window[:, 1:]
        mixed = (window * self.weight.T).sum(1)
        return self._activate(x, mixed) if self.activation else x + mixed if self.residual else mixed

    def _activate(self, x: Tensor, mixed: Tensor) -> Tensor:
        if not self.activation:
            return mixed
        return x + F.silu(mixed) if self.residual else F.silu(mixed)


def convolve(
    x: Float[Tensor, "B T C"], weight: Float[Tensor, "C K"], index: Int[Tensor, "*B T"] | None, identity: float = 0.0
) -> Float[Tensor, "B T C"]:
    """c_t = sum of weight[:, K-1-j] x_(t-j) over j <= index[t], the position within the document.

    index None: one document per row. identity: added to the weight of the token itself, 1 for h + c. Under autocast the
    sum is in fp32 and the result in the dtype of x.
    """
    total = x * (weight[:, -1] + identity)
    for back in range(1, min(weight.shape[1], x.shape[1])):
        earlier = x[:, :-back] * weight[:, -1 - back]
        if index is not None:
            earlier = earlier * (index[..., back:] >= back)[..., None]
        total = total + F.pad(earlier, (0, 0, back, 0))
    return total.to(x.dtype)


def canon_for(config: ModelConfig, place: Place, channels: int) -> Canon | None:
    """The Canon layer of a config at a place (A, B, C or D), None if it has none there."""
    if place not in config.canon:
        return None
    return Canon(
        channels, config.canon_kernel, config.canon_residual, config.canon_activation, config.canon_learnable,
        f"canon_{place.lower()}",
    )  # fmt: skip


def empty_canon_caches(rows: int, *layers: Canon | None) -> dict[str, Tensor]:
    """Empty caches, for `rows` sequences, of the layers that are not None."""
    return {key: empty for layer in layers if layer is not None for key, empty in layer.empty_cache(rows).items()}


def short_conv(channels: int, key: str) -> Canon:
    """Short convolution of recurrent mixers: SiLU, no residual (the "b" of the paper's names)."""
    return Canon(channels, residual=False, activation=True, key=key)
