"""Linear attention with the feature map elu + 1 (arXiv 2006.16236, section 3)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.mixers.recurrent import LocalConv, RecurrenceInputs, RecurrentMixer

EPSILON = 1e-6  # added to the sum of weights


class LinearAttention(RecurrentMixer):
    """Average of the values with weights f(q) . f(k), f = elu + 1. Parameters: 4 D^2 (+ 4 D biases).

    An additional value channel that is always 1 sums the weights.
    """

    name = "linear"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, 3 * config.d_model, 3 * config.d_model, config.d_model)
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)

    @classmethod
    def state_shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        return config.n_heads, config.d_head, config.d_head + 1

    def project_inputs(self, x: Float[Tensor, "*B D"], local_conv: LocalConv) -> tuple[RecurrenceInputs, None]:
        qkv = local_conv(self.conv, local_conv(self.canon_b, self.qkv(x)))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return RecurrenceInputs(F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0), None), None

    def project_output(self, mixed: Float[Tensor, "*B H V"], residue: None) -> Float[Tensor, "*B D"]:
        return self.write((mixed[..., :-1] / (mixed[..., -1:] + EPSILON)).flatten(-2))
