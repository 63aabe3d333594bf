"""Base class of mixers with a gated linear recurrence (lm/ops/linear_recurrence.py)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.layers.canon import Canon, canon_for, empty_canon_caches, short_conv
from lm.layers.context import SequenceContext
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer
from lm.ops.linear_recurrence import linear_recurrence, recurrent_step

MIN_TIME_STEP, MAX_TIME_STEP, TIME_STEP_FLOOR = 1e-3, 1e-1, 1e-4  # of initial time steps, as in Mamba2
LocalConv = Callable[[Canon | None, Tensor], Tensor]  # applies a convolution (None: identity) to all tokens or to one


def init_time_steps(bias: Tensor, generator: torch.Generator) -> None:
    """Fill `bias` with inverse softplus of log-uniform time steps."""
    bias.uniform_(math.log(MIN_TIME_STEP), math.log(MAX_TIME_STEP), generator=generator)
    bias.exp_().clamp_min_(TIME_STEP_FLOOR)
    bias += torch.log(-torch.expm1(-bias))


class RecurrenceInputs(NamedTuple):
    """Inputs of the recurrence, with T or for a single token; shapes in lm/ops/linear_recurrence.py."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor | None


class RecurrentMixer(Mixer):
    """Mixer with a gated linear recurrence, whose inputs and outputs a subclass projects.

    state_shape: (H, K, V), number of heads and widths of a key and a value.
    project_inputs: x (..., D) to (inputs of the recurrence, residue for project_output); convolutions are applied by
    `local_conv`.
    project_output: outputs of the recurrence (..., H, V) to (..., D).
    """

    def __init__(self, config: ModelConfig, canon_channels: int, conv_channels: int, out_channels: int) -> None:
        """Numbers of channels of Canon B, of the short convolution, and of the input of the output layer."""
        super().__init__()
        self.heads, self.key_width, self.value_width = self.state_shape(config)
        self.init_std = config.init_std
        self.canon_b = canon_for(config, "B", canon_channels)
        self.conv = short_conv(conv_channels, "conv") if config.use_short_conv else None
        self.out = residual_writer(nn.Linear(out_channels, config.d_model, bias=config.bias))

    @classmethod
    def state_shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        raise NotImplementedError

    @classmethod
    def mixing_flops(cls, config: ModelConfig, window: int) -> float:
        """Each entry of the state is updated by one product and read by another."""
        heads, key, value = cls.state_shape(config)
        return 4.0 * heads * key * value

    def init_parameter(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """The short convolution starts normal(0, init_std), as in the released layers, unlike Canon layers."""
        if name != "conv.weight":
            return False
        parameter.normal_(0.0, self.init_std, generator=generator)
        return True

    def project_inputs(self, x: Float[Tensor, "*B D"], local_conv: LocalConv) -> tuple[RecurrenceInputs, Any]:
        raise NotImplementedError

    def project_output(self, mixed: Float[Tensor, "*B H V"], residue: Any) -> Float[Tensor, "*B D"]:
        raise NotImplementedError

    def write(self, mixed: Float[Tensor, "*B C"]) -> Float[Tensor, "*B D"]:
        """The output layer, in the precision of its weights: the recurrence is in fp32 in any."""
        return self.out(mixed.to(self.out.weight.dtype))

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        inputs, residue = self.project_inputs(x, lambda layer, h: h if layer is None else layer(h, context, cache))
        is_doc_start = None if context.allowed is None else context.index == 0
        mixed, state = linear_recurrence(*inputs, is_doc_start)
        if cache is not None:
            cache["state"] = state
        return self.project_output(mixed, residue)

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        shape = (rows, self.heads, self.key_width, self.value_width)
        state = self.out.weight.new_zeros(shape, dtype=torch.float32)
        return LayerCache({"state": state, **empty_canon_caches(rows, self.canon_b, self.conv)})

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        inputs, residue = self.project_inputs(x, lambda layer, h: h if layer is None else layer.step(h, cache))
        mixed, cache["state"] = recurrent_step(*inputs, cache["state"])
        return self.project_output(mixed, residue)
