"""Gated DeltaNet (arXiv 2412.06464), in the sizes of Part 4.1's playground (arXiv 2512.17351, appendix C).

Same forward pass as the released layer in flash-linear-attention. That layer multiplies queries by K^-1/2; here the
factor is in the epsilon of the output norm, which is invariant to scale otherwise.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.layers.canon import canon_for, empty_canon_caches, short_conv
from lm.layers.context import SequenceContext
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer
from lm.mixers.recurrent import init_time_steps
from lm.ops.gated_delta_rule import gated_delta_rule, l2_normalize, recurrent_step

EXPAND_K, EXPAND_V = 0.75, 1.5  # width of all queries (or keys) and of all values, relative to D
EPS = 1e-5


def head_width(config: ModelConfig, expand: float) -> int:
    """`expand` times the head width of attention, rounded to nearest (halves up), at least 1."""
    return max(1, math.floor(expand * config.d_head + 0.5))


class GatedDeltaNet(Mixer):
    """Queries, keys and values pass Canon B, the short convolution and SiLU (kept without the convolution, as in the
    released layer); then L2-normalized queries and keys, the gated delta rule, a SiLU-gated RMS norm per head, and the
    output projection. No biases, whatever config.bias.

    A head's decay is exp(-exp(A_log) softplus(a + dt_bias)) as in Mamba2, its writing strength beta = sigmoid(b), with
    a and b projected from the token. Parameters: 6 D^2 (about, if head widths are rounded), 2 D H for a and b, 3 D
    kernel for the convolution, and 2 H + V.
    """

    name = "gdn"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.init_std = config.n_heads, config.init_std
        self.key, self.value = head_width(config, EXPAND_K), head_width(config, EXPAND_V)
        channels, linear = self.heads * (2 * self.key + self.value), partial(nn.Linear, bias=False)
        self.qkv = linear(config.d_model, channels)
        self.canon_b = canon_for(config, "B", channels)
        self.conv = short_conv(channels, "conv") if config.use_short_conv else None
        self.gate = linear(config.d_model, self.heads * self.value)
        self.rates = linear(config.d_model, 2 * self.heads)
        self.A_log, self.dt_bias = (nn.Parameter(torch.empty(self.heads)) for _ in range(2))
        self.norm = nn.RMSNorm(self.value, eps=EPS * self.key)
        self.out = residual_writer(linear(self.heads * self.value, config.d_model))

    @classmethod
    def mixing_flops(cls, config: ModelConfig, window: int) -> float:
        """Each entry of the state is read for the key, updated by a product, and read for the query."""
        return 6.0 * config.n_heads * head_width(config, EXPAND_K) * head_width(config, EXPAND_V)

    def init_parameter(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """As in the released layer: exp(A_log) uniform up to 16, time steps log-uniform, convolution normal."""
        if name == "A_log":
            parameter.uniform_(1e-3, 16, generator=generator).log_()
        elif name == "dt_bias":
            init_time_steps(parameter, generator)
        elif name == "conv.weight":
            parameter.normal_(0.0, self.init_std, generator=generator)
        return name in ("A_log", "dt_bias", "conv.weight")

    def _heads(self, qkv: Float[Tensor, "*B C"]) -> list[Tensor]:
        """Split into q, k (..., H, K) and v (..., H, V)."""
        sizes = [self.heads * self.key] * 2 + [self.heads * self.value]
        return [part.unflatten(-1, (self.heads, -1)) for part in qkv.split(sizes, -1)]

    def _gates(self, x: Float[Tensor, "*B D"]) -> tuple[Float[Tensor, "*B H"], Float[Tensor, "*B H"]]:
        """Log decays and beta, in fp32."""
        a, b = self.rates(x).float().chunk(2, -1)
        return -self.A_log.float().exp() * F.softplus(a + self.dt_bias.float()), b.sigmoid()

    def _finish(self, mixed: Float[Tensor, "*B H V"], x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        gated = self.norm(mixed.to(self.norm.weight.dtype)).flatten(-2) * F.silu(self.gate(x))
        return self.out(gated.to(self.out.weight.dtype))

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        qkv = self.qkv(x)
        if self.canon_b is not None:
            qkv = self.canon_b(qkv, context, cache)
        qkv = F.silu(qkv) if self.conv is None else self.conv(qkv, context, cache)
        is_doc_start = None if context.allowed is None else (context.index == 0).expand(x.shape[:2])
        q, k, v = self._heads(qkv)
        mixed, state = gated_delta_rule(q, k, v, *self._gates(x), is_doc_start)
        if cache is not None:
            cache["state"] = state
        return self._finish(mixed, x)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        state = self.A_log.new_zeros((rows, self.heads, self.key, self.value), dtype=torch.float32)
        return LayerCache({"state": state, **empty_canon_caches(rows, self.canon_b, self.conv)})

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        qkv = self.qkv(x)
        if self.canon_b is not None:
            qkv = self.canon_b.step(qkv, cache)
        qkv = F.silu(qkv) if self.conv is None else self.conv.step(qkv, cache)
        q, k, v = self._heads(qkv.float())
        mixed, cache["state"] = recurrent_step(cache["state"], l2_normalize(q), l2_normalize(k), v, *self._gates(x))
        return self._finish(mixed, x)
