"""Canon layers (Physics of Language Models, Part 4.1, arXiv 2512.17351, section 4): each token sees a few before it.

A causal depthwise convolution, c_t = sum over j of w_j * h_(t-j) channel by channel, without bias, zero before the
start of a document. Its weights are held in the order of torch's Conv1d: the last column is that of the token itself.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.positions import Places
from lm.ops.cpu_dispatch import is_plain

Place = Literal["A", "B", "C", "D"]


class Canon(nn.Module):
    """h + c (with residual) or c, and with `activation` SiLU(c) in place of c. Parameters: channels * kernel.

    trained=False keeps the random taps as they were drawn (cst-Canon): they are then a buffer and no parameter. key:
    the name of its memory in the State of a block.
    """

    weight: Tensor

    def __init__(
        self,
        channels: int,
        kernel: int = 4,
        residual: bool = True,
        activation: bool = False,
        trained: bool = True,
        key: str = "canon_a",
    ) -> None:
        super().__init__()
        self.kernel, self.residual, self.activation, self.key = kernel, residual, activation, key
        weight = torch.empty(channels, kernel)
        if trained:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight)

    def initialise(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """Uniform within 1 / sqrt(kernel), as Conv1d begins; the model's own spread would leave the taps dead."""
        bound = 1 / math.sqrt(self.kernel)
        parameter.uniform_(-bound, bound, generator=generator)
        return True

    def forward(self, x: Float[Tensor, "B T C"], places: Places, state: State | None = None) -> Float[Tensor, "B T C"]:
        """All positions at once; begins anew at every document. A state gets the last inputs."""
        if state is not None:
            state[self.key] = F.pad(x, (0, 0, self.kernel - 1, 0))[:, x.shape[1] :]
        own = 1.0 if self.residual and not self.activation else 0.0
        if is_plain(x):
            from lm.ops.cpu_conv1d import convolve as fast  # numba takes its time to import

            mixed = fast(x, self.weight, places.index, own)
        else:
            mixed = convolve(x, self.weight, places.index if places.allowed is not None else None, own)
        return self._activated(x, mixed)

    def memory(self, rows: int) -> dict[str, Tensor]:
        """The memory of `rows` sequences that have not begun."""
        return {self.key: self.weight.new_zeros(rows, self.kernel - 1, len(self.weight))}

    def step(self, x: Float[Tensor, "B C"], state: State) -> Float[Tensor, "B C"]:
        """One more token of every sequence."""
        window = torch.cat((state[self.key], x[:, None]), 1)
        state[self.key] = window[:, 1:]
        mixed = (window * self.weight.T).sum(1)
        return self._activated(x, mixed) if self.activation else x + mixed if self.residual else mixed

    def _activated(self, x: Tensor, mixed: Tensor) -> Tensor:
        if not self.activation:
            return mixed
        return x + F.silu(mixed) if self.residual else F.silu(mixed)


def convolve(
    x: Float[Tensor, "B T C"], weight: Float[Tensor, "C K"], index: Int[Tensor, "*B T"] | None, own: float = 0.0
) -> Float[Tensor, "B T C"]:
    """c_t = sum of weight[:, K-1-j] x_(t-j) over the j for which the token is there: j <= index, the position within
    the document (None: one document a row). own: added to the weight of the token itself, 1 for h + c. Under autocast
    the sum is in fp32 and the result as x is, so that what follows is not made to keep fp32."""
    total = x * (weight[:, -1] + own)
    for back in range(1, min(weight.shape[1], x.shape[1])):
        earlier = x[:, :-back] * weight[:, -1 - back]
        if index is not None:
            earlier = earlier * (index[..., back:] >= back)[..., None]
        total = total + F.pad(earlier, (0, 0, back, 0))
    return total.to(x.dtype)


def canon_for(config: ModelConfig, place: Place, channels: int) -> Canon | None:
    """The Canon layer that the configuration wants in a place, on so many channels; None where it wants none."""
    if place not in config.canon:
        return None
    return Canon(
        channels, config.canon_kernel, config.canon_residual, config.canon_activation, config.canon_trained,
        f"canon_{place.lower()}",
    )  # fmt: skip


def memories(rows: int, *layers: Canon | None) -> dict[str, Tensor]:
    """The memories of those of the layers that there are, of `rows` sequences that have not begun."""
    return {key: empty for layer in layers if layer is not None for key, empty in layer.memory(rows).items()}


def short_conv(channels: int, key: str) -> Canon:
    """The convolution that recurrent mixers bring along: SiLU, no residual (the "b" of the paper's names)."""
    return Canon(channels, residual=False, activation=True, key=key)
