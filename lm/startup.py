"""What keeps a start short: models on the meta device without detours, no compiler where nothing is compiled.

torch imports its compiler and sympy, for a second and a half, at the first draw or copy of a tensor on the meta device
and when an optimizer is made.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# each asks torch._dynamo to leave it alone, which loads it; a function that has asked keeps the answer under this name
LEFT_ALONE = "__dynamo_disable"


class QuickMetaDevice(TorchFunctionMode):
    """Context in which layers on the meta device are made without initial draws, which have no effect there, and given
    memory without a detour; the models are the same."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__ and "tensor" in named and named["tensor"].is_meta:
            return named["tensor"]
        if func is torch.empty_like and args[0].is_meta and args[0].is_contiguous():
            return torch.empty(args[0].shape, **{"dtype": args[0].dtype, "device": "meta", **named})
        return func(*args, **named)


def leave_uncompiled(functions: Iterable[Callable[..., Any]]) -> None:
    """Have torch run these functions as they are, without the import of its compiler first."""
    for function in functions:
        plain = inspect.unwrap(function)
        if plain is not function and not hasattr(plain, LEFT_ALONE):
            setattr(plain, LEFT_ALONE, plain)
