"""The summed cross-entropy of a whole decoder as one operation of autograd, by the kernels of objective.cpp.

A step of a small model costs more in calls of operators than in arithmetic; this makes two calls of it.
"""

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int, c_int64, c_void_p, cast
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lm.native.block import (
    PARAMETERS,
    BlockGradients,
    BlockStruct,
    document_starts,
    have_hooks,
    is_fp32,
    is_known,
    make_struct,
    numbers_of,
    parameters_of,
    pointer,
    work_size,
)
from lm.native.build import library
from lm.native.workspace import give_back, take
from lm.ops.cpu_dispatch import can_use_cpu_kernels

if TYPE_CHECKING:
    from lm.layers.context import SequenceContext

POSITIONS = ("learned", "rotary", "none")
TABLES = ("embed", "positions", "norm", "norm_bias", "head")


class _Model(Structure):
    """The struct Model of objective.cpp."""

    _fields_ = [
        *((name, c_int) for name in ("layers", "vocab", "position_rows")),
        *((name, c_void_p) for name in ("tokens", "targets", "index", *TABLES, "blocks")),
    ]


class _ModelGradients(Structure):
    _fields_ = [(name, c_void_p) for name in (*TABLES, "blocks")]


@cache
def _functions() -> tuple[Any, Any, Any]:
    kernels = library()
    assert kernels is not None
    kernels.model_saved_size.argtypes, kernels.model_saved_size.restype = [POINTER(_Model)], c_int64
    kernels.model_forward.argtypes, kernels.model_forward.restype = [POINTER(_Model), c_void_p], c_double
    kernels.model_backward.argtypes = [POINTER(_Model), c_void_p, POINTER(_ModelGradients), c_float, c_void_p]
    kernels.model_backward.restype = None
    return kernels.model_saved_size, kernels.model_forward, kernels.model_backward


def can_fuse_objective(model: Any, inputs: Tensor) -> bool:
    """Whether the kernels compute the loss of this decoder: known blocks in fp32 on a CPU, and nothing hooked."""
    config, blocks = model.config, model.blocks
    if not (
        can_use_cpu_kernels(model.embed.weight) and inputs.numel() > 0 and len(blocks) > 0 and torch.is_grad_enabled()
    ):
        return False
    known = config.causal and config.positions in POSITIONS and type(model.embed) is nn.Embedding
    known = known and type(model.norm) in (nn.LayerNorm, nn.RMSNorm)
    known = known and (config.tie_embeddings or type(model.head) is nn.Linear)
    known = known and not have_hooks(model, model.norm, *model.tables())
    return bool(known) and is_fp32(model.embed.weight) and all(map(is_known, blocks)) and library() is not None


def summed_loss(model: Any, inputs: Tensor, targets: Tensor, context: "SequenceContext", bf16: bool = False) -> Tensor:
    """Cross-entropy (nats) summed over the targets (B, T) that are not negative; `can_fuse_objective` must hold.

    bf16: round the operands of matrix products to bf16.
    """
    rows, length = inputs.shape
    numbers = numbers_of(model.blocks[0], rows, length, context, bf16)
    learned = model.positions.weight if model.config.positions == "learned" else None
    head = None if model.config.tie_embeddings else model.head.weight
    tables = (model.embed.weight, learned, model.norm.weight, getattr(model.norm, "bias", None), head)
    blocks = [parameter for block in model.blocks for parameter in parameters_of(block)]
    cos, sin = context.angles or (None, None)
    index, first = context.index.contiguous(), document_starts(context, length)
    data = (inputs.contiguous(), targets.contiguous(), index, first, cos, sin)
    return _FusedObjective.apply(numbers, float(model.norm.eps), *data, *tables, *blocks)


class _FusedObjective(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, numbers: dict[str, int], eps: float, inputs: Tensor, targets: Tensor, index: Tensor, first: Tensor,
        cos: Tensor | None, sin: Tensor | None, *parameters: Tensor | None,
    ) -> Tensor:  # fmt: skip
        saved_size, forward, _ = _functions()
        angles = [None if each is None else each.contiguous() for each in (cos, sin)]
        held = [None if each is None else each.contiguous() for each in parameters]
        model, alive = _make_model(numbers, eps, (inputs, targets, index, first, *angles), held)
        saved = take(saved_size(byref(model)))
        loss = forward(byref(model), saved.data_ptr())
        del alive
        ctx.save_for_backward(inputs, targets, index, first, *angles, *held)
        ctx.saved, ctx.numbers, ctx.eps = saved, numbers, eps
        return saved.new_tensor(loss)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *_, backward = _functions()
        data, held = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
        if (saved := ctx.saved) is None:
            raise RuntimeError("the loss was differentiated before, and its arrays are in use again; compute it again")
        model, blocks = _make_model(ctx.numbers, ctx.eps, data, held)
        gradients = _empty_gradients(held)
        embed, positions, norm, norm_bias, head, *rest = gradients
        tables = (embed, positions, norm, norm_bias, embed if head is None else head)
        size = len(PARAMETERS)
        each = [BlockGradients(*map(pointer, rest[at : at + size])) for at in range(0, len(rest), size)]
        array = (BlockGradients * len(each))(*each)
        into = _ModelGradients(*map(pointer, tables), cast(array, c_void_p))
        width, tokens = ctx.numbers["width"], ctx.numbers["rows"] * ctx.numbers["length"]
        work = take(work_size(blocks[0]) + 2 * (tokens * width + 16) + tokens * width)
        backward(byref(model), saved.data_ptr(), byref(into), float(grad), work.data_ptr())
        ctx.saved = None
        give_back(saved)
        give_back(work)
        return (None,) * 8 + tuple(gradients)


def _empty_gradients(held: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Arrays for the gradients; the positions' begins at 0, as only rows that occur are added to."""
    found = [None if each is None else torch.empty_like(each) for each in held]
    if found[1] is not None:
        found[1].zero_()
    return found


def _make_model(
    numbers: dict[str, int], eps: float, data: Sequence[Any], parameters: Sequence[Tensor | None]
) -> tuple[_Model, Any]:
    """The struct of a model, and the array of its blocks, which must outlive it."""
    inputs, targets, index, first, cos, sin = data
    embed, positions, norm, norm_bias, head, *rest = parameters
    size = len(PARAMETERS)
    each = [make_struct(numbers, eps, rest[at : at + size], (cos, sin), first) for at in range(0, len(rest), size)]
    blocks = (BlockStruct * len(each))(*each)
    tables = (embed, positions, norm, norm_bias, embed if head is None else head)
    sizes = (len(each), embed.shape[0], 1 if index.ndim == 1 else len(index))  # type: ignore[union-attr]
    model = _Model(*sizes, *map(pointer, (inputs, targets, index, *tables)), cast(blocks, c_void_p))
    return model, blocks
