"""The mark of modules whose output is added to the residual stream."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def residual_writer(module: M) -> M:
    """Mark a module, usually the last linear layer of a mixer or MLP, whose output is added to the residual stream.

    Its initial weights are divided by sqrt(2 L) (lm.initialization); quantization rounds it after the layers before it.
    """
    module.writes_residual = True  # type: ignore[assignment]
    return module


def writes_residual(module: nn.Module) -> bool:
    """Whether a module was marked by `residual_writer`."""
    return getattr(module, "writes_residual", False)
