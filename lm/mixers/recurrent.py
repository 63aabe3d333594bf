"""What recurrent mixers share: a state of fixed size in place of all earlier tokens (lm/ops/linear_recurrence.py)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.canon import Canon, canon_for, memories, short_conv
from lm.layers.positions import Places
from lm.mixers.base import Mixer
from lm.ops.linear_recurrence import scan, step

SLOWEST, FASTEST, LEAST = 1e-3, 1e-1, 1e-4  # the time steps at the beginning, and what none is below
Local = Callable[[Canon | None, Tensor], Tensor]  # passes a tensor through a convolution, for all tokens or for one


def first_steps(bias: Tensor, generator: torch.Generator) -> None:
    """Fill `bias` so that its softplus is time steps, spread evenly over their logarithm."""
    bias.uniform_(math.log(SLOWEST), math.log(FASTEST), generator=generator).exp_().clamp_min_(LEAST)
    bias += torch.log(-torch.expm1(-bias))


class Terms(NamedTuple):
    """What goes into the recurrence, with or without a dimension T; see lm/ops/linear_recurrence.py."""

    q: Tensor
    k: Tensor
    v: Tensor
    decay: Tensor | None


class Recurrent(Mixer):
    """A mixer by a gated linear recurrence. A subclass says what goes in and what is made of the outcome.

    shape: heads H, width K of a key and V of a value, the sizes of the state;
    read: (..., D) to what goes into the recurrence and what `write` needs besides; what looks at earlier tokens goes
    through `local`;
    write: outcomes (..., H, V) to (..., D).
    """

    def __init__(self, config: ModelConfig, projected: int, mixed: int, inner: int) -> None:
        """Channels that Canon B sees, that the mixer's own convolution sees, and that go into the last matrix."""
        super().__init__()
        self.heads, self.key_width, self.value_width = self.shape(config)
        self.spread = config.init_std
        self.canon_b = canon_for(config, "B", projected)
        self.conv = short_conv(mixed, "conv") if config.conv else None
        self.out = nn.Linear(inner, config.width, bias=config.bias)

    @classmethod
    def shape(cls, config: ModelConfig) -> tuple[int, int, int]:
        raise NotImplementedError

    @classmethod
    def mixing_flops(cls, config: ModelConfig, window: int) -> float:
        """Each number of the state takes in a product and goes into another."""
        heads, key, value = cls.shape(config)
        return 4.0 * heads * key * value

    def initialise(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        """The convolution begins as any matrix, as in the released layers; Canon layers begin in their own way."""
        if name != "conv.weight":
            return False
        parameter.normal_(0.0, self.spread, generator=generator)
        return True

    def read(self, x: Float[Tensor, "*B D"], local: Local) -> tuple[Terms, Any]:
        raise NotImplementedError

    def write(self, mixed: Float[Tensor, "*B H V"], besides: Any) -> Float[Tensor, "*B D"]:
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        terms, besides = self.read(x, lambda layer, h: h if layer is None else layer(h, places, state))
        fresh = None if places.allowed is None else places.index == 0
        mixed, last = scan(*terms, fresh)
        if state is not None:
            state["memory"] = last
        return self.write(mixed, besides)

    def state(self, rows: int, length: int, places: Places) -> State:
        memory = self.out.weight.new_zeros((rows, self.heads, self.key_width, self.value_width), dtype=torch.float32)
        return State({"memory": memory, **memories(rows, self.canon_b, self.conv)})

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        terms, besides = self.read(x, lambda layer, h: h if layer is None else layer.step(h, state))
        mixed, state["memory"] = step(*terms, state["memory"])
        return self.write(mixed, besides)
