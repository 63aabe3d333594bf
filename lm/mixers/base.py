"""The interface of token mixers."""

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from lm.layers.cache import LayerCache
from lm.layers.context import SequenceContext

if TYPE_CHECKING:
    from lm.config import ModelConfig


class Mixer(nn.Module):
    """Layer that moves information between tokens. A subclass takes a ModelConfig, defines `forward`, marks its output
    layer by lm.layers.residual.residual_writer, and may define the other methods.

    forward(x, context): (B, T, D) to (B, T, D); see lm.layers.context. With `step` it takes a third argument, `cache`,
    and fills it, if not None, with what `step` needs.
    empty_cache: cache of `rows` sequences of at most `length` tokens.
    step: output (B, D) for one more token (B, D) of every sequence, at position t.
    init_parameter: fill the parameter or buffer `name` of the mixer and return True; False: lm.initialization fills it.
    weights(x, context): attention weights (B, H, T, T), if the output is out(weights @ values) per head; for analysis.

    Without `empty_cache` and `step`, generation stores the inputs and recomputes `forward` for every token.
    """

    name: ClassVar[str] = ""  # value of ModelConfig.mixer; mixers under lm/mixers/ only
    supports_bidirectional: ClassVar[bool] = False  # whether it supports causal=False
    attention_flops: ClassVar[float] = 0  # forward matmul FLOPs per token and layer, divided by D T

    @classmethod
    def mixing_flops(cls, config: "ModelConfig", window: int) -> float:
        """Forward matmul FLOPs per token and layer, excluding parameters, for sequences of `window` tokens."""
        return cls.attention_flops * config.d_model * window

    def forward(self, x: Tensor, context: SequenceContext, cache: LayerCache | None = None) -> Tensor:
        raise NotImplementedError

    def init_parameter(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        return False

    def prefill(self, x: Tensor, context: SequenceContext, cache: LayerCache) -> Tensor:
        """`forward`, filling `cache` with what `step` needs."""
        if type(self).step is not Mixer.step:
            return self(x, context, cache)
        cache["inputs"] = x
        return self(x, context)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        return LayerCache({}, {"context": context})

    def step(self, x: Tensor, cache: LayerCache, t: int, context: SequenceContext) -> Tensor:
        cache["inputs"] = torch.cat((cache["inputs"], x[:, None]), 1) if "inputs" in cache else x[:, None]
        return self(cache["inputs"], cache.fixed["context"].truncate(t + 1))[:, -1]
