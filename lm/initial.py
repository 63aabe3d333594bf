"""The first weights of a model: a pure function of its configuration and a seed."""

import math
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lm.config import ModelConfig

if TYPE_CHECKING:
    from lm.model import Decoder


@torch.no_grad()
def initialise(model: "Decoder", seed: int) -> None:
    """GPT-2's rule: normal(init_std), what writes to the residual stream smaller by sqrt(2 L), biases 0, norms 1.

    A module with a method `initialise` is asked first, an outer one before those in it (see lm.mixer.Mixer). Every
    parameter has a stream of its own, keyed by its name, so that two models share what they have in common.
    """
    for name, parameter in chain(model.named_parameters(), model.named_buffers()):
        key = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()) >> 1
        if not _by_its_module(model, name, parameter, torch.Generator().manual_seed(key)):
            _by_rule(model.config, name, parameter, torch.Generator().manual_seed(key))


def _by_its_module(model: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
    path = name.split(".")
    for depth in range(1, len(path)):
        module: Any = model.get_submodule(".".join(path[:depth]))
        if hasattr(module, "initialise") and module.initialise(".".join(path[depth:]), parameter, generator):
            return True
    return False


def _by_rule(config: ModelConfig, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if parameter.ndim == 1:
        parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        return
    std = config.init_std
    if name.endswith(("mixer.out.weight", ".down.weight")):
        std /= math.sqrt(2 * config.layers)
    if name == "positions.weight" and config.positions == "position_only":
        std = 1.0  # scores are products of two tables: with both near zero neither would learn
    parameter.normal_(0.0, std, generator=generator)
