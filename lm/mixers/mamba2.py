"""Mamba2 (arXiv 2405.21060, section 7), with the layout of weights and the initial values of transformers' Mamba2."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.mixers.recurrent import Local, Recurrent, Terms, first_steps

EXPAND = 2
EPSILON = 1e-5


class Mamba2(Recurrent):
    """A state space model whose heads forget as a whole; all heads share one key (B) and one query (C) per token.

    The width of these, `state`, is what the papers call the state size. Parameters: 6 D^2 + 2 D state + H D, 2 D for
    the norm, 3 H, and 4 (2 D + 2 state) for the convolution, which here has no bias. Without it x, B and C stay
    linear: its SiLU goes with it.
    """

    name = "mamba2"

    def __init__(self, config: ModelConfig) -> None:
        inner = EXPAND * config.width
        sizes = (inner, inner + 2 * config.state, config.heads)
        super().__init__(config, sum(sizes), sizes[1], inner)
        self.sizes = sizes
        self.projection = nn.Linear(config.width, sum(sizes), bias=config.bias)
        self.A_log = nn.Parameter(torch.empty(config.heads))
        self.D = nn.Parameter(torch.empty(config.heads))
        self.dt_bias = nn.Parameter(torch.empty(config.heads))
        self.norm = nn.RMSNorm(inner, eps=EPSILON)

    @classmethod
    def shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        return config.heads, config.state, EXPAND * config.head_width

    def initialise(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """Decay rates 1..H, steps of all sizes, a plain way through for x; the convolution begins as torch's does."""
        if name == "A_log":
            parameter.copy_(torch.arange(1, self.heads + 1).log())
        elif name == "D":
            parameter.fill_(1.0)
        elif name == "dt_bias":
            first_steps(parameter, generator)
        else:
            return False
        return True

    def read(self, x: Float[Tensor, "*B D"], local: Local) -> tuple[Terms, tuple[Tensor, Tensor]]:
        z, xbc, dt = local(self.canon_b, self.projection(x)).split(self.sizes, -1)
        inside, b, c = local(self.conv, xbc).split((self.sizes[0], self.key_width, self.key_width), -1)
        inside = inside.unflatten(-1, (self.heads, -1))
        dt = F.softplus(dt.float() + self.dt_bias)
        decay = -self.A_log.float().exp() * dt
        return Terms(c.unsqueeze(-2), b.unsqueeze(-2), inside * dt[..., None], decay), (inside, z)

    def write(self, mixed: Float[Tensor, "*B H V"], besides: tuple[Tensor, Tensor]) -> Float[Tensor, "*B D"]:
        inside, z = besides
        mixed = (mixed + self.D[:, None] * inside).flatten(-2)
        return self.out(self.norm(mixed * F.silu(z)))
