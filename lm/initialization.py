"""Initial weights of a model: a pure function of its configuration and a seed."""

import math
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lm.layers.residual import writes_residual
from synth.errors import UserError

if TYPE_CHECKING:
    from lm.model import Decoder


@torch.no_grad()
def init_weights(model: "Decoder", seed: int, keep: Callable[[Tensor], bool] = lambda _: False) -> None:
    """Fill all parameters by GPT-2's rule: matrices normal(0, init_std), divided by sqrt(2 L) in a residual_writer;
    vectors 1 if they are a `weight` (the gain of a norm), else 0.

    A module's method `init_parameter` takes precedence, an outer module's first (see lm.mixers.base.Mixer). Every
    parameter has its own random stream, keyed by its name, so models agree in the parameters they have in common.
    keep: whether a parameter or buffer is left as it is.

    Raises UserError for a buffer that no `init_parameter` fills: models are built on the meta device, where values
    assigned by a constructor are lost.
    """
    for name, parameter in model.named_parameters():
        if not keep(parameter) and not _init_by_module(model, name, parameter, _generator(seed, name)):
            _init_by_default(model, name, parameter, _generator(seed, name))
    for name, buffer in model.named_buffers():
        if not keep(buffer) and not _init_by_module(model, name, buffer, _generator(seed, name)):
            raise UserError(
                f"nothing fills the buffer {name}, as models are built on the meta device; fill it in the mixer's "
                "`init_parameter`, or compute it in `forward`"
            )


def _generator(seed: int, name: str) -> torch.Generator:
    key = int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()) >> 1
    return torch.Generator().manual_seed(key)


def _init_by_module(model: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> bool:
    path = name.split(".")
    for depth in range(1, len(path)):
        module: Any = model.get_submodule(".".join(path[:depth]))
        if hasattr(module, "init_parameter") and module.init_parameter(".".join(path[depth:]), parameter, generator):
            return True
    return False


def _init_by_default(model: "Decoder", name: str, parameter: Tensor, generator: torch.Generator) -> None:
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    if parameter.ndim == 1:
        parameter.fill_(1.0 if own == "weight" else 0.0)
        return
    std = model.config.init_std
    if own == "weight" and writes_residual(module):
        std /= math.sqrt(2 * model.config.n_layers)
    if name == "positions.weight" and model.config.positions == "position_only":
        std = 1.0  # scores are products of two tables; with both near zero neither would learn
    parameter.normal_(0.0, std, generator=generator)
