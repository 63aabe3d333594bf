"""MLPs: plain as in GPT-2 (tanh GELU, arXiv 1606.08415) or gated as in LLaMA (GLU, arXiv 2002.05202).

relu2 is Primer's squared ReLU (arXiv 2109.08668), reglu2 its gated form, as compared in Part 4.1.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.residual import residual_writer
from lm.options import GATED


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": partial(F.gelu, approximate="tanh"),
    "geglu": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swiglu": F.silu,
    "relu2": relu2,
    "reglu2": relu2,
}
AuxLosses = list[Tensor]  # of all layers, nats per token
PreActivationHook = Callable[[Tensor], Tensor]  # optional transform of the pre-activation (Canon D)


class PlainMLP(nn.Module):
    """down(activation(up x)), hidden width M. Parameters: 2 D M (+ M + D biases)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.d_model, config.mlp_hidden_dim, bias=config.bias)
        self.down = residual_writer(nn.Linear(config.mlp_hidden_dim, config.d_model, bias=config.bias))

    def forward(
        self,
        x: Float[Tensor, "*B D"],
        aux_losses: AuxLosses | None = None,
        pre_activation_hook: PreActivationHook | None = None,
    ) -> Float[Tensor, "*B D"]:
        hidden = self.up(x) if pre_activation_hook is None else pre_activation_hook(self.up(x))
        return self.down(self.activation(hidden))


class GatedMLP(nn.Module):
    """down(activation(gate x) * up x); `up` holds both gate and up. Parameters: 3 D M (+ 2 M + D biases)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.mlp]
        self.up = nn.Linear(config.d_model, 2 * config.mlp_hidden_dim, bias=config.bias)
        self.down = residual_writer(nn.Linear(config.mlp_hidden_dim, config.d_model, bias=config.bias))

    def forward(
        self,
        x: Float[Tensor, "*B D"],
        aux_losses: AuxLosses | None = None,
        pre_activation_hook: PreActivationHook | None = None,
    ) -> Float[Tensor, "*B D"]:
        hidden = self.up(x) if pre_activation_hook is None else pre_activation_hook(self.up(x))
        gate, up = hidden.chunk(2, -1)
        return self.down(self.activation(gate) * up)


def make_mlp(config: ModelConfig) -> nn.Module:
    """The MLP of a config."""
    return GatedMLP(config) if config.mlp in GATED else PlainMLP(config)
