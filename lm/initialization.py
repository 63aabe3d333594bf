"""The first weights of a model: a pure function of its configuration and a seed."""

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from synth.errors import UserError

if TYPE_CHECKING:
    from lm.model import Decoder


NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


@torch.no_grad()
def initialise(model: "Decoder", seed: int) -> None:
    """GPT-2's rule: normal(init_std), what writes to the residual stream smaller by sqrt(2 L), biases 0, norms 1.

    A module with a method `initialise` is asked first, an outer one before those in it (see lm.mixers.base.Mixer).
    Every parameter has a stream of its own, keyed by its name, so that two models share what they have in common.

    Raises UserError for a buffer that no module fills: a model is made without numbers, so its constructor's are lost.
    """
    for name, parameter in model.named_parameters():
        if not _by_its_module(model, name, parameter, _stream(seed, name)):
            _by_rule(model, name, parameter, _stream(seed, name))
    for name, buffer in model.named_buffers():
        if not _by_its_module(model, name, buffer, _stream(seed, name)):
            raise UserError(
                f"nothing fills the buffer {name}, as models are made without numbers; fill it in the mixer's "
                "`initialise`, or compute it in `forward`"
            )


def _stream(seed: int, name: str) -> torch.Generator:
    key = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()) >> 1
    return torch.Generator().manual_seed(key)


def _by_its_module(model: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
    path = name.split(".")
    for depth in range(1, len(path)):
        module: Any = model.get_submodule(".".join(path[:depth]))
        if hasattr(module, "initialise") and module.initialise(".".join(path[depth:]), parameter, generator):
            return True
    return False


def _by_rule(model: "Decoder", name: str, parameter: Tensor, generator: torch.Generator) -> None:
    module, _, own = name.rpartition(".")
    if parameter.ndim == 1:
        gain = own == "weight" and (isinstance(model.get_submodule(module), NORMS) or module.endswith("norm"))
        parameter.fill_(1.0 if gain else 0.0)
        return
    std = model.config.init_std
    if name.endswith(("mixer.out.weight", ".down.weight")):
        std /= math.sqrt(2 * model.config.layers)
    if name == "positions.weight" and model.config.positions == "position_only":
        std = 1.0  # scores are products of two tables: with both near zero neither would learn
    parameter.normal_(0.0, std, generator=generator)
