"""Loss and gradients of a whole decoder in two calls, by the kernels of objective.cpp.

A step of a small model costs more in calls of operators, and in Python's bookkeeping around them, than in arithmetic.
"""

from collections.abc import Sequence
from ctypes import POINTER, Structure, addressof, byref, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from lm.layers.context import SequenceContext
from lm.layers.document_mask import document_positions
from lm.layers.positions import rotary_angles
from lm.model import Decoder
from lm.native.block import (
    MODULE_HOOKS,
    PARAMETERS,
    BlockGradients,
    BlockStruct,
    document_starts,
    is_fp32,
    is_known,
    make_struct,
    modules_of,
    numbers_of,
    parameters_of,
    pointer,
)
from lm.native.build import library
from lm.ops.cpu_dispatch import can_use_cpu_kernels

POSITIONS = ("learned", "rotary", "none")
TABLES = ("embed", "positions", "norm", "norm_bias", "head")
ALIGNMENT = 16  # numbers; vectors of 64 bytes
CACHE = 1 << 20  # bytes of activations; half of the cache of a core
MIN_TOKENS = 128  # fewer make matrix products slow


class _Model(Structure):
    """The struct Model of objective.cpp."""

    _fields_ = [
        *((name, c_int) for name in ("layers", "vocab", "position_rows", "rows_at_a_time")),
        *((name, c_void_p) for name in ("tokens", "targets", "index", *TABLES, "blocks")),
    ]


class _ModelGradients(Structure):
    _fields_ = [*((name, c_void_p) for name in (*TABLES, "blocks", "base")), ("size", c_int64)]


@cache
def _model_loss() -> Any:
    kernels = library()
    assert kernels is not None
    kernels.model_loss.argtypes = [POINTER(_Model), POINTER(_ModelGradients), c_float]
    kernels.model_loss.restype = c_double
    return kernels.model_loss


def knows_decoder(model: Any) -> bool:
    """Whether the kernels compute the model: a decoder of known blocks in fp32 on a CPU, where there are kernels."""
    if type(model) is not Decoder:  # a subclass may compute something else
        return False
    config, blocks = model.config, model.blocks
    known = config.causal and config.positions in POSITIONS and type(model.embed) is nn.Embedding and len(blocks) > 0
    known = known and type(model.norm) in (nn.LayerNorm, nn.RMSNorm)
    known = known and (config.tie_embeddings or type(model.head) is nn.Linear)
    known = bool(known) and all(map(is_known, blocks)) and all(map(is_fp32, _weights_of(model)))
    return known and library() is not None


def _weights_of(model: Any) -> list[Tensor]:
    """All weights of a model whose blocks are known."""
    inside = (each for block in model.blocks for each in parameters_of(block))
    return [each for each in (*tables_of(model), *inside) if each is not None]


def have_no_hooks(model: Any) -> bool:
    """Whether no module of a known decoder has a hook or a `forward` of its own, which the kernels would pass over."""
    return not any(_hooks_of(model)) and not any("forward" in own for own in _attributes_of(model))


def _modules_of(model: Any) -> list[nn.Module]:
    return [model, model.norm, *model.tables(), *(m for block in model.blocks for m in modules_of(block))]


def _hooks_of(model: Any) -> list[dict[int, Any]]:
    return [getattr(module, name) for module in _modules_of(model) for name in MODULE_HOOKS]


def _attributes_of(model: Any) -> list[dict[str, Any]]:
    return [vars(module) for module in _modules_of(model)]


def tables_of(model: Any) -> list[Tensor | None]:
    """The weights outside the blocks, in the order of TABLES."""
    learned = model.positions.weight if model.config.positions == "learned" else None
    head = None if model.config.tie_embeddings else model.head.weight
    return [model.embed.weight, learned, model.norm.weight, getattr(model.norm, "bias", None), head]


def fuse_objective(model: Any, bf16: bool = False) -> "FusedObjective | None":
    """The loss of this decoder by the kernels; None where they do not compute it (`knows_decoder`).

    bf16: round the operands of matrix products to bf16. The modules of the model must stay what they are.
    """
    return FusedObjective(model, bf16) if knows_decoder(model) else None


class FusedObjective:
    """Summed cross-entropy of a decoder and its gradients; see `fuse_objective`.

    gradients: what `p.grad` becomes, for each parameter that is trained; overwritten by the next call.
    """

    def __init__(self, model: Any, bf16: bool) -> None:
        self.model, self.bf16 = model, bf16
        self.held = [*tables_of(model), *(parameter for block in model.blocks for parameter in parameters_of(block))]
        # the dictionaries themselves: later hooks, and a later `forward`, show in them
        self.hooks, self.attributes = _hooks_of(model), _attributes_of(model)
        sizes = [0 if each is None else -(-each.numel() // ALIGNMENT) * ALIGNMENT for each in self.held]
        self.flat = torch.empty(sum(sizes))
        parts = self.flat.split(sizes)
        self.gradients = [
            None if each is None else part[: each.numel()].view_as(each)
            for each, part in zip(self.held, parts, strict=True)
        ]
        pairs = zip(self.held, self.gradients, strict=True)
        self.trained = [(each, grad) for each, grad in pairs if each is not None and each.requires_grad]
        self.plans: dict[Any, _Plan] = {}
        self.contexts: dict[int, SequenceContext] = {}

    def applies(self) -> bool:
        """Whether nothing has come up since that the kernels would pass over: hooks of modules or of gradients, a
        replaced `forward`, autocast."""
        return not (
            any(self.hooks)
            or any("forward" in own for own in self.attributes)
            or any(each._backward_hooks or each._post_accumulate_grad_hooks for each, _ in self.trained)
        ) and bool(can_use_cpu_kernels(self.model.embed.weight) and torch.is_grad_enabled())

    def __call__(
        self, inputs: Tensor, targets: Tensor, documents: Tensor | None, scale: float, add: bool = False
    ) -> float:
        """Cross-entropy (nats) summed over the targets (B, T) that are not negative, times `scale`.

        Sets p.grad of every trained parameter to the gradients of that. add: to their sum with those of the last call.
        Raises IndexError for a token that the model does not have, as torch does.
        """
        self._check_ids(inputs, targets)
        if not add:
            self.flat.zero_()
        context = self._context(inputs.shape[1], documents)
        key = (*inputs.shape, context.index.ndim, tuple(p.data_ptr() for p in self.held if p is not None))
        if key not in self.plans:
            self.plans.clear()  # batches of a training have one shape
            self.plans[key] = _Plan(self, inputs, context)
        loss = self.plans[key].run(inputs.long().contiguous(), targets.long().contiguous(), context, scale)
        for parameter, gradient in self.trained:
            parameter.grad = gradient
        return loss * scale

    def _check_ids(self, inputs: Tensor, targets: Tensor) -> None:
        """The kernels read whatever a wrong number points to."""
        low, high = torch.aminmax(inputs)
        most = max(int(high), int(targets.max()))
        if int(low) < 0 or most >= self.model.vocab_size:
            wrong = int(low) if int(low) < 0 else most
            raise IndexError(f"token {wrong} is outside the model's {self.model.vocab_size} tokens")

    def _context(self, length: int, documents: Tensor | None) -> SequenceContext:
        if documents is not None:  # the kernels need no mask, which is a large array
            self.model.check_length(length)
            index = document_positions(documents)
            config = self.model.config
            angles = rotary_angles(config, index, length) if config.positions == "rotary" else None
            return SequenceContext(index, angles=angles)
        if length not in self.contexts:
            self.contexts = {length: self.model.make_context(length)}
        return self.contexts[length]


class _Plan:
    """The structs and arrays for batches of one shape."""

    def __init__(self, objective: FusedObjective, inputs: Tensor, context: SequenceContext) -> None:
        model, held = objective.model, objective.held
        rows, length = inputs.shape
        numbers = numbers_of(model.blocks[0], rows, length, context, objective.bf16)
        count, grads = len(TABLES), objective.gradients
        blocks = [
            make_struct(numbers, float(model.norm.eps), each, (None, None), None) for each in _split(held[count:])
        ]
        array = (BlockStruct * len(blocks))(*blocks)
        self.blocks = list(array)  # views of the array
        into = (BlockGradients * len(blocks))(*(BlockGradients(*map(pointer, each)) for each in _split(grads[count:])))
        self.alive = (array, into)
        sizes = (
            len(blocks),
            model.vocab_size,
            1 if context.index.ndim == 1 else rows,
            rows_at_a_time(numbers, len(blocks)),
        )
        self.model = _Model(*sizes, None, None, None, *table_pointers(held), addressof(array))
        flat = objective.flat
        self.into = _ModelGradients(*table_pointers(grads), addressof(into), flat.data_ptr(), flat.numel())

    def run(self, inputs: Tensor, targets: Tensor, context: SequenceContext, scale: float) -> float:
        """The summed loss; gradients go to those of the objective."""
        index, first = context.index.contiguous(), document_starts(context, inputs.shape[1])
        cos, sin = (each.contiguous() for each in context.angles) if context.angles else (None, None)
        self.model.tokens, self.model.targets, self.model.index = map(pointer, (inputs, targets, index))
        for block in self.blocks:
            block.first, block.cos, block.sin = pointer(first), pointer(cos), pointer(sin)
        return float(_model_loss()(byref(self.model), byref(self.into), scale))


def rows_at_a_time(numbers: dict[str, int], layers: int) -> int:
    """How many rows of a batch go through the model together: as many as the cache of a core holds."""
    up = numbers["hidden"] * (2 if numbers["gated"] else 1)
    per_token = 4 * layers * (8 * numbers["width"] + 2 * up + numbers["hidden"])  # bytes, about
    return max(1, CACHE // (per_token * numbers["length"]), -(-MIN_TOKENS // numbers["length"]))


def table_pointers(each: Sequence[Tensor | None]) -> list[int | None]:
    """Addresses in the order of TABLES; the embedding's stands for a head that is tied to it."""
    *others, head = map(pointer, each[: len(TABLES)])
    return [*others, others[0] if head is None else head]


def _split(each: Sequence[Any]) -> list[Sequence[Any]]:
    """What belongs to the blocks, block by block."""
    size = len(PARAMETERS)
    return [each[at : at + size] for at in range(0, len(each), size)]
