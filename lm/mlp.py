"""Position-wise layers: GELU as in GPT-2 (tanh form, arXiv 1606.08415), SwiGLU as in LLaMA (arXiv 2002.05202)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig


class GeluMLP(nn.Module):
    """Two matrices with a GELU between. Parameters: 2 D M (+ M + D biases)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.hidden_width, bias=config.bias)
        self.down = nn.Linear(config.hidden_width, config.width, bias=config.bias)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class SwigluMLP(nn.Module):
    """Gated: down(silu(gate x) * up x), gate and up in one matrix. Parameters: 3 D M (+ 2 M + D biases)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 2 * config.hidden_width, bias=config.bias)
        self.down = nn.Linear(config.hidden_width, config.width, bias=config.bias)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


MLPS: dict[str, type[nn.Module]] = {"gelu": GeluMLP, "swiglu": SwigluMLP}
