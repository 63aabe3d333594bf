"""Gated linear attention (arXiv 2312.06635, section 4; sizes as in Part 4.1, arXiv 2512.17351, appendix C)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.mixers.recurrent import Local, Recurrent, Terms
from synth.errors import UserError

RANK = 16  # of the gate's projection
TEMPERATURE = 16  # the gate is sigmoid to the power of 1/16, so that it begins near 1
EPSILON = 1e-5


class GatedLinearAttention(Recurrent):
    """Keys half as wide as values, each channel of them with a forget gate of its own. Parameters: 4 D^2 + 24.5 D + V.

    V is the width of a head: its RMS norm has one gain for all heads. Biases add 4 D where the model has them.
    """

    name = "gla"

    def __init__(self, config: ModelConfig) -> None:
        if config.head_width % 2:
            raise UserError(
                f"mixer=gla halves heads of width {config.head_width}; make width an even multiple of heads"
            )
        super().__init__(config, 2 * config.width, 2 * config.width, config.width)
        self.sizes = (config.width // 2, config.width // 2, config.width)
        self.qkv = nn.Linear(config.width, 2 * config.width, bias=config.bias)
        self.gate = nn.Linear(config.width, config.width, bias=config.bias)
        self.forget_in = nn.Linear(config.width, RANK, bias=False)
        self.forget_out = nn.Linear(RANK, config.width // 2)
        self.norm = nn.RMSNorm(self.value_width, eps=EPSILON)

    @classmethod
    def shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        return config.heads, config.head_width // 2, config.head_width

    def read(self, x: Float[Tensor, "*B D"], local: Local) -> tuple[Terms, Tensor]:
        qkv = local(self.conv, local(self.canon_b, self.qkv(x)))
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in qkv.split(self.sizes, -1))
        decay = F.logsigmoid(self.forget_out(self.forget_in(x)).float()) / TEMPERATURE
        return Terms(q * self.key_width**-0.5, k, v, decay.unflatten(-1, (self.heads, -1))), self.gate(x)

    def write(self, mixed: Float[Tensor, "*B H V"], besides: Tensor) -> Float[Tensor, "*B D"]:
        return self.out(self.norm(mixed.float()).flatten(-2) * F.silu(besides))
