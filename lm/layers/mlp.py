"""Position-wise layers: plain as in GPT-2 (tanh GELU, arXiv 1606.08415), gated as in LLaMA (GLU, arXiv 2002.05202).

relu2 is the squared ReLU of Primer (arXiv 2109.08668), reglu2 its gated form, as compared in Part 4.1.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import GATED, ModelConfig


def relu2(x: Tensor) -> Tensor:
    """The square of what is above 0."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": partial(F.gelu, approximate="tanh"),
    "geglu": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swiglu": F.silu,
    "relu2": relu2,
    "reglu2": relu2,
}
Costs = list[Tensor]  # what layers want added to the objective, in nats a token; see docs/architectures.md
Tap = Callable[[Tensor], Tensor]  # what a block lets pass over the pre-activation: its Canon layer D


class PlainMLP(nn.Module):
    """Two matrices with a non-linearity between. Parameters: 2 D M (+ M + D biases)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.width, config.hidden_width, bias=config.bias)
        self.down = nn.Linear(config.hidden_width, config.width, bias=config.bias)

    def forward(
        self, x: Float[Tensor, "*B D"], costs: Costs | None = None, tap: Tap | None = None
    ) -> Float[Tensor, "*B D"]:
        hidden = self.up(x) if tap is None else tap(self.up(x))
        return self.down(self.activation(hidden))


class GatedMLP(nn.Module):
    """down(activation(gate x) * up x), gate and up in one matrix. Parameters: 3 D M (+ 2 M + D biases)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.width, 2 * config.hidden_width, bias=config.bias)
        self.down = nn.Linear(config.hidden_width, config.width, bias=config.bias)

    def forward(
        self, x: Float[Tensor, "*B D"], costs: Costs | None = None, tap: Tap | None = None
    ) -> Float[Tensor, "*B D"]:
        hidden = self.up(x) if tap is None else tap(self.up(x))
        gate, up = hidden.chunk(2, -1)
        return self.down(self.activation(gate) * up)


def make_mlp(config: ModelConfig) -> nn.Module:
    """One MLP of the kind that the configuration names."""
    return GatedMLP(config) if config.mlp in GATED else PlainMLP(config)
