"""Gated linear attention (arXiv 2312.06635, section 4; sizes as in Part 4.1, arXiv 2512.17351, appendix C)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.mixers.recurrent import LocalConv, RecurrenceInputs, RecurrentMixer
from synth.errors import UserError

RANK = 16  # of the forget gate's projection
TEMPERATURE = 16  # the forget gate is sigmoid^(1/16), so that it starts near 1
EPSILON = 1e-5


class GatedLinearAttention(RecurrentMixer):
    """Linear recurrence with a forget gate per key channel; keys are half as wide as values.

    Parameters: 4 D^2 + 24.5 D + V (+ 4 D biases); V, the width of a head, is the RMS norm shared by all heads.
    """

    name = "gla"

    def __init__(self, config: ModelConfig) -> None:
        if config.d_head % 2:
            raise UserError(f"mixer=gla halves heads of width {config.d_head}; give d_model = even multiple of n_heads")
        super().__init__(config, 2 * config.d_model, 2 * config.d_model, config.d_model)
        self.sizes = (config.d_model // 2, config.d_model // 2, config.d_model)
        self.qkv = nn.Linear(config.d_model, 2 * config.d_model, bias=config.bias)
        self.gate = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.forget_in = nn.Linear(config.d_model, RANK, bias=False)
        self.forget_out = nn.Linear(RANK, config.d_model // 2)
        self.norm = nn.RMSNorm(self.value_width, eps=EPSILON)

    @classmethod
    def state_shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        return config.n_heads, config.d_head // 2, config.d_head

    def project_inputs(self, x: Float[Tensor, "*B D"], local_conv: LocalConv) -> tuple[RecurrenceInputs, Tensor]:
        qkv = local_conv(self.conv, local_conv(self.canon_b, self.qkv(x)))
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in qkv.split(self.sizes, -1))
        log_decay = F.logsigmoid(self.forget_out(self.forget_in(x)).float()) / TEMPERATURE
        return RecurrenceInputs(q * self.key_width**-0.5, k, v, log_decay.unflatten(-1, (self.heads, -1))), self.gate(x)

    def project_output(self, mixed: Float[Tensor, "*B H V"], residue: Tensor) -> Float[Tensor, "*B D"]:
        return self.write(self.norm(mixed.to(self.norm.weight.dtype)).flatten(-2) * F.silu(residue))
