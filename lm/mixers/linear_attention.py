"""Linear attention with the feature map elu + 1 (arXiv 2006.16236, section 3)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.mixers.recurrent import Local, Recurrent, Terms

EPSILON = 1e-6  # of the normaliser


class LinearAttention(Recurrent):
    """Values averaged with weights f(q) . f(k) > 0, f = elu + 1. Parameters: 4 D^2 (+ 4 D).

    The sum of the weights is one more channel of the values, 1 in every token.
    """

    name = "linear"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, 3 * config.width, 3 * config.width, config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)

    @classmethod
    def shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        return config.heads, config.head_width, config.head_width + 1

    def read(self, x: Float[Tensor, "*B D"], local: Local) -> tuple[Terms, None]:
        qkv = local(self.conv, local(self.canon_b, self.qkv(x)))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return Terms(F.elu(q) + 1, F.elu(k) + 1, F.pad(v, (0, 1), value=1.0), None), None

    def write(self, mixed: Float[Tensor, "*B H V"], besides: None) -> Float[Tensor, "*B D"]:
        return self.out((mixed[..., :-1] / (mixed[..., -1:] + EPSILON)).flatten(-2))
