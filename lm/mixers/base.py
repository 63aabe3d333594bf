"""The contract that every token mixer keeps."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lm.config import ModelConfig
from lm.layers.cache import State
from lm.layers.positions import Places


class Mixer(nn.Module):
    """A layer that moves information between tokens, made from a ModelConfig. A subclass defines `forward` and may
    define the other methods.

    forward: all positions at once, (B, T, D) to (B, T, D); `places` says where each token sits in its document. One
    that also defines `step` takes a third argument, `state`, and when it is given remembers there what `step` needs;
    state: an empty memory for `rows` sequences of at most `length` tokens;
    step: one more token (B, D), the t-th (from 0), of every sequence;
    initialise: fills a parameter and returns True, or leaves it to the model's rule and returns False; `name` is the
    parameter's within the mixer.

    Without `state` and `step` the inputs are remembered and `forward` is computed anew at every token: slow and right.
    One whose output is out(weights @ values), head by head, also defines weights(x, places), (B, H, T, T): nothing that
    trains or generates needs them, so the other methods may never hold them.
    """

    name: ClassVar[str] = ""  # what a configuration calls it, for those under lm/mixers/
    encodes: ClassVar[bool] = False  # whether it can see both sides, as causal=False asks
    attention_flops: ClassVar[float] = 0  # matmul FLOPs of one token and layer in the forward pass: this times D T

    @classmethod
    def mixing_flops(cls, config: ModelConfig, window: int) -> float:
        """Matmul FLOPs of one token and layer in the forward pass, beside those of the parameters."""
        return cls.attention_flops * config.width * window

    def forward(self, x: Tensor, places: Places, state: State | None = None) -> Tensor:
        raise NotImplementedError

    def initialise(self, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
        return False

    def remembering(self, x: Tensor, places: Places, state: State) -> Tensor:
        """`forward`, which leaves in `state` what `step` needs to go on."""
        if type(self).step is not Mixer.step:
            return self(x, places, state)
        state["inputs"] = x
        return self(x, places)

    def state(self, rows: int, length: int, places: Places) -> State:
        return State({}, {"places": places})

    def step(self, x: Tensor, state: State, t: int, places: Places) -> Tensor:
        state["inputs"] = torch.cat((state["inputs"], x[:, None]), 1) if "inputs" in state else x[:, None]
        return self(state["inputs"], state.fixed["places"].upto(t + 1))[:, -1]
