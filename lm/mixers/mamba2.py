"""Mamba2 (arXiv 2405.21060, section 7), with the weight layout and initialization of transformers' Mamba2."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.mixers.recurrent import LocalConv, RecurrenceInputs, RecurrentMixer, init_time_steps

EXPAND = 2
EPSILON = 1e-5


class Mamba2(RecurrentMixer):
    """State space model with one decay per head; all heads share a key (B) and a query (C) of width N = d_state.

    The convolution has no bias; without it (use_short_conv=False) there is no SiLU on x, B and C either. Parameters:
    6 D^2 + 2 D N + H D, 2 D for the norm, 3 H, and 4 (2 D + 2 N) for the convolution.
    """

    name = "mamba2"

    def __init__(self, config: ModelConfig) -> None:
        inner = EXPAND * config.d_model
        sizes = (inner, inner + 2 * config.d_state, config.n_heads)
        super().__init__(config, sum(sizes), sizes[1], inner)
        self.sizes = sizes
        self.projection = nn.Linear(config.d_model, sum(sizes), bias=config.bias)
        self.A_log = nn.Parameter(torch.empty(config.n_heads))
        self.D = nn.Parameter(torch.empty(config.n_heads))
        self.dt_bias = nn.Parameter(torch.empty(config.n_heads))
        self.norm = nn.RMSNorm(inner, eps=EPSILON)

    @classmethod
    def state_shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        return config.n_heads, config.d_state, EXPAND * config.d_head

    def init_parameter(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """Decay rates exp(A_log) 1..H, log-uniform time steps, D = 1; the convolution as in torch's Conv1d."""
        if name == "A_log":
            parameter.copy_(torch.arange(1, self.heads + 1).log())
        elif name == "D":
            parameter.fill_(1.0)
        elif name == "dt_bias":
            init_time_steps(parameter, generator)
        else:
            return False
        return True

    def project_inputs(
        self, x: Float[Tensor, "*B D"], local_conv: LocalConv
    ) -> tuple[RecurrenceInputs, tuple[Tensor, Tensor]]:
        z, xbc, dt = local_conv(self.canon_b, self.projection(x)).split(self.sizes, -1)
        x_conv, b, c = local_conv(self.conv, xbc).split((self.sizes[0], self.key_width, self.key_width), -1)
        x_conv = x_conv.unflatten(-1, (self.heads, -1))
        dt = F.softplus(dt.float() + self.dt_bias)
        log_decay = -self.A_log.float().exp() * dt
        return RecurrenceInputs(c.unsqueeze(-2), b.unsqueeze(-2), x_conv * dt[..., None], log_decay), (x_conv, z)

    def project_output(self, mixed: Float[Tensor, "*B H V"], residue: tuple[Tensor, Tensor]) -> Float[Tensor, "*B D"]:
        x_conv, z = residue
        mixed = (mixed + self.D[:, None] * x_conv).flatten(-2)
        return self.write(self.norm((mixed * F.silu(z)).to(self.norm.weight.dtype)))
