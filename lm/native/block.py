"""A whole transformer block as one operation of autograd, by the kernels of block.cpp."""

from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lm.layers.canon import Canon
from lm.layers.context import SequenceContext
from lm.layers.mlp import ACTIVATIONS, GatedMLP, PlainMLP
from lm.mixers.attention import SoftmaxAttention
from lm.native.build import library
from lm.ops.cpu_dispatch import can_use_cpu_kernels

SIZES = (
    "rows length width heads hidden kernel norm activation gated bf16 canon_residual rotary_half rotary_heads "
    "angle_rows first_rows"
).split()
PARAMETERS = (
    "norm1 norm1_bias canon_a qkv qkv_bias canon_b out out_bias "
    "norm2 norm2_bias canon_c up up_bias canon_d down down_bias"
).split()
ACTIVATION_NUMBERS = {"gelu": 0, "geglu": 0, "silu": 1, "swiglu": 1, "relu2": 2, "reglu2": 2}
NUMBER_OF = {id(ACTIVATIONS[name]): number for name, number in ACTIVATION_NUMBERS.items()}
MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class BlockStruct(Structure):
    """The struct Block of block.h."""

    _fields_ = [
        *((name, c_int) for name in SIZES),
        ("eps", c_float),
        *((name, c_void_p) for name in (*PARAMETERS, "cos", "sin", "first")),
    ]


class BlockGradients(Structure):
    """The struct Gradients of block.h."""

    _fields_ = [(name, c_void_p) for name in PARAMETERS]


@cache
def _functions() -> tuple[Any, Any, Any]:
    kernels = library()
    assert kernels is not None
    kernels.block_saved_size.argtypes, kernels.block_saved_size.restype = [POINTER(BlockStruct)], c_int64
    kernels.block_forward.argtypes = [POINTER(BlockStruct), c_void_p, c_void_p, c_void_p]
    arrays: list[Any] = [POINTER(BlockStruct), *[c_void_p] * 3, POINTER(BlockGradients), c_void_p, c_void_p]
    kernels.block_backward.argtypes = arrays
    return kernels.block_saved_size, kernels.block_forward, kernels.block_backward


def can_fuse(block: Any, x: Tensor, context: SequenceContext) -> bool:
    """Whether the kernels compute this block of lm.model: causal softmax attention and a plain or gated MLP, in fp32 on
    a CPU, of unchanged modules without hooks."""
    if not (can_use_cpu_kernels(x) and context.bias is None and x.numel() > 0):
        return False
    return is_known(block) and not have_hooks(*modules_of(block)) and library() is not None


def is_known(block: Any) -> bool:
    """Whether the block is of modules that the kernels compute, in fp32, with the methods of their classes."""
    mixer, mlp = block.mixer, block.mlp
    if type(mixer) is not SoftmaxAttention or not mixer.causal or mixer.q_norm is not None:
        return False
    if type(mlp) not in (PlainMLP, GatedMLP) or id(mlp.activation) not in NUMBER_OF:
        return False
    canons = [each for each in canons_of(block) if each is not None]
    linears, norms = (mixer.qkv, mixer.out, mlp.up, mlp.down), (block.mixer_norm, block.mlp_norm)
    return (
        all(type(each) is nn.Linear for each in linears)
        and all(type(each) in (nn.LayerNorm, nn.RMSNorm) for each in norms)
        and all(type(each) is Canon and not each.activation for each in canons)
        and all("forward" not in vars(each) for each in modules_of(block))  # lm.inference.ablation replaces it
        and all(each is None or is_fp32(each) for each in parameters_of(block))
    )


def modules_of(block: Any) -> list[nn.Module]:
    """The modules of a known block that the kernels never call."""
    mixer, mlp = block.mixer, block.mlp
    inner = (mixer, mlp, mixer.qkv, mixer.out, mlp.up, mlp.down, block.mixer_norm, block.mlp_norm)
    return [block, *inner, *(each for each in canons_of(block) if each is not None)]


def is_fp32(weight: Tensor) -> bool:
    """Whether a weight is fp32 on a CPU, its numbers one after the other."""
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.is_contiguous()


def have_hooks(*modules: nn.Module) -> bool:
    """Whether a hook would see what a module gives or gets."""
    return any(getattr(each, name) for each in modules for name in MODULE_HOOKS)


def canons_of(block: Any) -> tuple[Canon | None, ...]:
    """The Canon layers A, B, C and D."""
    return block.canon_a, block.mixer.canon_b, block.canon_c, block.canon_d


def parameters_of(block: Any) -> tuple[Tensor | None, ...]:
    """The block's weights in the order of PARAMETERS."""
    mixer, mlp, first, second = block.mixer, block.mlp, block.mixer_norm, block.mlp_norm
    a, b, c, d = (None if each is None else each.weight for each in canons_of(block))
    return (
        first.weight, getattr(first, "bias", None), a, mixer.qkv.weight, mixer.qkv.bias, b, mixer.out.weight,
        mixer.out.bias, second.weight, getattr(second, "bias", None), c, mlp.up.weight, mlp.up.bias, d,
        mlp.down.weight, mlp.down.bias,
    )  # fmt: skip


def numbers_of(block: Any, rows: int, length: int, context: SequenceContext, bf16: bool) -> dict[str, int]:
    """The sizes and switches of a block for a batch of this shape, by the names of SIZES."""
    mixer, mlp = block.mixer, block.mlp
    canon = next((each for each in canons_of(block) if each is not None), None)
    cos, gated = (context.angles or (None,))[0], type(mlp) is GatedMLP
    return {
        "rows": rows, "length": length, "width": mixer.qkv.weight.shape[1], "heads": mixer.heads,
        "hidden": mlp.up.weight.shape[0] // (2 if gated else 1), "gated": gated, "bf16": bf16,
        "norm": isinstance(block.mixer_norm, nn.RMSNorm), "activation": NUMBER_OF[id(mlp.activation)],
        "kernel": canon.kernel if canon else 1, "canon_residual": bool(canon and canon.residual),
        "rotary_half": 0 if cos is None else cos.shape[-1], "rotary_heads": mixer.num_rotary_heads,
        "angle_rows": 1 if cos is None or cos.ndim == 3 else len(cos),
        "first_rows": 1 if context.index.ndim == 1 else len(context.index),
    }  # fmt: skip


def run_block(block: Any, x: Tensor, context: SequenceContext, bf16: bool = False) -> Tensor:
    """The output of the block (B, T, D); `can_fuse` must hold. bf16: round the operands of matrix products to bf16."""
    numbers = numbers_of(block, x.shape[0], x.shape[1], context, bf16)
    cos, sin = context.angles or (None, None)
    first = document_starts(context, x.shape[1])
    return _FusedBlock.apply(x, numbers, float(block.mixer_norm.eps), first, cos, sin, *parameters_of(block))


def document_starts(context: SequenceContext, length: int) -> Tensor:
    """(1 or B, T) int32: the position in the row at which the document of each token starts."""
    steps = torch.arange(length, dtype=torch.int32)
    return (steps - context.index.to(torch.int32)).view(-1, length).contiguous()


class _FusedBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, numbers: dict[str, int], eps: float, first: Tensor, cos: Tensor | None, sin: Tensor | None,
        *parameters: Tensor | None,
    ) -> Tensor:  # fmt: skip
        saved_size, forward, _ = _functions()
        x = x.contiguous()
        angles = [None if each is None else each.contiguous() for each in (cos, sin)]
        held = [None if each is None else each.contiguous() for each in parameters]
        block = make_struct(numbers, eps, held, angles, first)
        saved = x.new_empty(saved_size(byref(block)))
        y = torch.empty_like(x)
        forward(byref(block), x.data_ptr(), y.data_ptr(), saved.data_ptr())
        ctx.save_for_backward(x, saved, first, *angles, *held)
        ctx.numbers, ctx.eps = numbers, eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *_, backward = _functions()
        x, saved, first, cos, sin, *held = ctx.saved_tensors
        block = make_struct(ctx.numbers, ctx.eps, held, (cos, sin), first)
        grad = grad.contiguous()
        gradients = [None if each is None else torch.zeros_like(each) for each in held]
        pointers = BlockGradients(*map(pointer, gradients))
        dx, work = torch.empty_like(x), x.new_empty(work_size(block))
        arguments = (each.data_ptr() for each in (x, grad, saved))
        backward(byref(block), *arguments, byref(pointers), dx.data_ptr(), work.data_ptr())
        return dx, None, None, None, None, None, *gradients


def make_struct(
    numbers: dict[str, int],
    eps: float,
    parameters: Sequence[Tensor | None],
    angles: Sequence[Tensor | None],
    first: Tensor | None,
) -> BlockStruct:
    """The struct of a block; the tensors must be contiguous, and outlive it."""
    return BlockStruct(*(int(numbers[name]) for name in SIZES), eps, *map(pointer, (*parameters, *angles, first)))


def pointer(tensor: Tensor | None) -> int | None:
    """The address of a tensor's first number; None for None."""
    return None if tensor is None else tensor.data_ptr()


def work_size(block: BlockStruct) -> int:
    """How many numbers block_backward works in."""
    wide = max(3 * block.width, block.hidden * (2 if block.gated else 1))
    return block.rows * block.length * (2 * wide + block.width)
