"""Gated DeltaNet (arXiv 2412.06464), in the sizes of Part 4.1's playground (arXiv 2512.17351, appendix C).

Differences from its released layer in flash-linear-attention: none in the forward pass at the sizes of the paper. That
layer multiplies queries by K^-1/2, which here is part of the norm's epsilon, as the norm takes any scale out again.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.canon import canon_for, memories, short_conv
from lm.layers.positions import Places
from lm.mixers.base import Mixer
from lm.mixers.recurrent import first_steps
from lm.ops.gated_delta_rule import advance, gated_delta_rule, unit

EXPAND_K, EXPAND_V = 0.75, 1.5  # width of all queries (and keys) and of all values, as shares of D
EPS = 1e-5


def head_width(config: ModelConfig, expand: float) -> int:
    """Numbers a head: `expand` times that of attention, rounded to the nearest (halves up), at least 1."""
    return max(1, math.floor(expand * config.head_width + 0.5))


class GatedDeltaNet(Mixer):
    """Queries, keys and values pass Canon B, a short convolution and SiLU; queries and keys get length 1; the gated
    delta rule; an RMS norm head by head, gated by SiLU; the output projection. No biases, whatever `config.bias` says.
    Without the convolution its SiLU stays, as in the released layer.

    The decay of a head is exp(-exp(A_log) softplus(a + dt_bias)) with a from the token, as in Mamba2, its rate the
    sigmoid of b from the token. Parameters: 6 D^2 where the widths of the heads are whole numbers (else near it), 2 D H
    for a and b, 3 D kernel for the convolution, and 2 H + V.
    """

    name = "gdn"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.spread = config.heads, config.init_std
        self.key, self.value = head_width(config, EXPAND_K), head_width(config, EXPAND_V)
        channels, linear = self.heads * (2 * self.key + self.value), partial(nn.Linear, bias=False)
        self.qkv = linear(config.width, channels)
        self.canon_b = canon_for(config, "B", channels)
        self.conv = short_conv(channels, "conv") if config.conv else None
        self.gate = linear(config.width, self.heads * self.value)
        self.rates = linear(config.width, 2 * self.heads)
        self.A_log, self.dt_bias = (nn.Parameter(torch.empty(self.heads)) for _ in range(2))
        self.norm = nn.RMSNorm(self.value, eps=EPS * self.key)
        self.out = linear(self.heads * self.value, config.width)

    @classmethod
    def mixing_flops(cls, config: ModelConfig, window: int) -> float:
        """Each number of the state takes in a product, gives up what was there for the key, and goes into another."""
        return 6.0 * config.heads * head_width(config, EXPAND_K) * head_width(config, EXPAND_V)

    def initialise(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """Decays as Mamba2 begins: exp(A_log) uniform up to 16, time steps log-uniform. The convolution's taps are
        normal, as in the released layer, not those of a Canon layer."""
        if name == "A_log":
            parameter.uniform_(1e-3, 16, generator=generator).log_()
        elif name == "dt_bias":
            first_steps(parameter, generator)
        elif name == "conv.weight":
            parameter.normal_(0.0, self.spread, generator=generator)
        return name in ("A_log", "dt_bias", "conv.weight")

    def _heads(self, qkv: Float[Tensor, "*B C"]) -> list[Tensor]:
        """q, k (..., H, K) and v (..., H, V) from what lies side by side."""
        sizes = [self.heads * self.key] * 2 + [self.heads * self.value]
        return [part.unflatten(-1, (self.heads, -1)) for part in qkv.split(sizes, -1)]

    def _rates(self, x: Float[Tensor, "*B D"]) -> tuple[Float[Tensor, "*B H"], Float[Tensor, "*B H"]]:
        """Logarithms of the decays, and the rates, in fp32."""
        a, b = self.rates(x).float().chunk(2, -1)
        return -self.A_log.float().exp() * F.softplus(a + self.dt_bias.float()), b.sigmoid()

    def _finish(self, mixed: Float[Tensor, "*B H V"], x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return self.out(self.norm(mixed.float()).flatten(-2) * F.silu(self.gate(x)))

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        qkv = self.qkv(x)
        if self.canon_b is not None:
            qkv = self.canon_b(qkv, places, state)
        qkv = F.silu(qkv) if self.conv is None else self.conv(qkv, places, state)
        begins = None if places.allowed is None else (places.index == 0).expand(x.shape[:2])
        q, k, v = self._heads(qkv)
        mixed, memory = gated_delta_rule(q, k, v, *self._rates(x), begins)
        if state is not None:
            state["memory"] = memory
        return self._finish(mixed, x)

    def state(self, rows: int, length: int, places: Places) -> State:
        memory = self.A_log.new_zeros(rows, self.heads, self.key, self.value)
        return State({"memory": memory, **memories(rows, self.canon_b, self.conv)})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        qkv = self.qkv(x)
        if self.canon_b is not None:
            qkv = self.canon_b.step(qkv, state)
        qkv = F.silu(qkv) if self.conv is None else self.conv.step(qkv, state)
        q, k, v = self._heads(qkv)
        mixed, state["memory"] = advance(state["memory"], unit(q), unit(k), v, *self._rates(x))
        return self._finish(mixed, x)
