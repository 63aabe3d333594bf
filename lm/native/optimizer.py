"""Gradient clipping and AdamW over all parameters of a small model, in one call each (optimizer.cpp)."""

import math
from collections.abc import Callable, Sequence
from ctypes import c_double, c_float, c_int, c_int64, c_void_p
from functools import cache
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from lm.native.build import library

MOMENTS = ("exp_avg", "exp_avg_sq")
EPSILON = 1e-6  # added to the norm, as torch.nn.utils.clip_grad_norm_ does


def make_update(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> Callable[[float], bool] | None:
    """A function of the largest allowed gradient norm (0: no clipping) that clips gradients and takes a step of AdamW.

    It changes the state of the optimizer as the optimizer's own step would. It returns False, and does nothing, where a
    parameter has no gradient. None where the kernels do not apply: not AdamW, not in fp32 on a CPU, or not compiled.
    """
    plain = all(p.device.type == "cpu" and p.dtype == torch.float32 and p.is_contiguous() for p in parameters)
    if not (plain and parameters and type(optimizer) is torch.optim.AdamW and library() is not None):
        return None
    groups = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    if any(group["amsgrad"] or group["maximize"] for _, group in groups):
        return None
    return _Update(groups, optimizer)


class _Update:
    def __init__(self, groups: Sequence[tuple[Tensor, dict[str, Any]]], optimizer: torch.optim.Optimizer) -> None:
        self.parameters, self.group = [p for p, _ in groups], groups[0][1]
        self.steps = torch.zeros(len(self.parameters))
        for number, p in enumerate(self.parameters):
            state = optimizer.state[p]
            for name in MOMENTS:
                state.setdefault(name, torch.zeros_like(p))
            self.steps[number] = state.get("step", 0)
            state["step"] = self.steps[number]  # a view, so that one addition counts for all
        self.held = [[optimizer.state[p][name] for p in self.parameters] for name in MOMENTS]  # pointed into below
        self.means, self.squares = (_pointers(tensors) for tensors in self.held)
        self.targets = _pointers(self.parameters)
        self.count = len(self.parameters)
        self.sizes = (c_int64 * self.count)(*(p.numel() for p in self.parameters))
        self.decays = (c_float * self.count)(*(group["weight_decay"] for _, group in groups))
        self.grads: list[Any] = []
        self.sources: Any = None

    def __call__(self, max_norm: float) -> bool:
        if not self._point_at([p.grad for p in self.parameters]):
            return False
        squared_norm, adamw = _functions()
        factor = 1.0
        if max_norm:
            norm = math.sqrt(squared_norm(self.sources, self.sizes, self.count))
            factor = max_norm / (norm + EPSILON)
            factor = 1.0 if factor > 1 else factor  # NaN stays NaN
        self.steps += 1
        step, (beta1, beta2) = float(self.steps[0]), self.group["betas"]
        adamw(
            self.targets, self.sources, self.means, self.squares, self.sizes, self.decays, self.count, factor,
            self.group["lr"], beta1, beta2, self.group["eps"], 1 - beta1**step, 1 - beta2**step,
        )  # fmt: skip
        return True

    def _point_at(self, grads: list[Any]) -> bool:
        """Point at these gradients, often those of the last step; False if one is missing."""
        if len(grads) == len(self.grads) and all(map(is_, grads, self.grads)):
            return True
        if any(grad is None or not grad.is_contiguous() for grad in grads):
            return False
        self.grads, self.sources = grads, _pointers(grads)
        return True


def _pointers(tensors: Sequence[Any]) -> Any:
    return (c_void_p * len(tensors))(*(each.data_ptr() for each in tensors))


@cache
def _functions() -> tuple[Any, Any]:
    kernels = library()
    assert kernels is not None
    kernels.squared_norm.argtypes, kernels.squared_norm.restype = [c_void_p, c_void_p, c_int], c_double
    kernels.adamw.argtypes = [c_void_p] * 6 + [c_int] + [c_float] * 5 + [c_double] * 2
    kernels.adamw.restype = None
    return kernels.squared_norm, kernels.adamw
