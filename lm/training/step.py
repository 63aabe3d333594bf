"""One optimizer step: loss and gradients of a batch, gradient clipping, AdamW at the scheduled learning rate."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.config import TrainConfig
from lm.data.batches import TrainBatch
from lm.data.mlm import IGNORE_INDEX
from lm.layers.mlp import AuxLosses
from lm.model import Decoder
from lm.native.objective import fuse_objective
from lm.native.optimizer import make_update
from lm.training.distributed import DistContext, wrap_ddp
from lm.training.schedule import learning_rate
from lm.transforms.frozen_tokens import FrozenTokens
from synth.errors import UserError


class Objective(nn.Module):
    """Summed cross-entropy over unmasked targets plus auxiliary losses (nats); the module that torch.compile and DDP
    wrap."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> Tensor:
        aux_losses: AuxLosses = []
        logits = self.model(inputs, documents, aux_losses=aux_losses)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
        return loss + sum(aux_losses) * (targets != IGNORE_INDEX).sum() if aux_losses else loss


def make_train_step(
    model: Decoder,
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    place: DistContext,
    frozen: FrozenTokens | None = None,
) -> Callable[[TrainBatch, int], Tensor]:
    """A function (batch, step number) that takes one optimizer step and returns the mean loss of the global batch."""
    device, ranks = place.device, place.num_processes
    differentiate = make_differentiate(model, config, place)
    share = config.batch_size // ranks
    part = share // config.grad_accum_steps
    parameters = [p for p in model.parameters() if p.requires_grad]
    update = None if place.sharded else make_update(parameters, optimizer)

    def step(data: TrainBatch, number: int) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, number)
        total = torch.zeros((), device=device)
        begin = place.process_index * share
        for row in range(begin, begin + share, part):
            cut = slice(row, row + part)
            tensors = (
                None if tensor is None else tensor[cut].to(device, non_blocking=True)
                for tensor in (data.inputs, data.targets, data.documents)
            )
            total += differentiate(*tensors, 1 / max(data.num_targets, 1), row == begin, row + part == begin + share)
        if ranks > 1:
            torch.distributed.all_reduce(total)
        if frozen is not None:
            frozen.clear_gradients()
        if update is None or not update(config.max_grad_norm):
            if config.max_grad_norm:
                nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
        if frozen is not None:
            frozen.restore()
        for parameter in parameters:
            parameter.grad = None
        return total

    return step


def make_differentiate(model: Decoder, config: TrainConfig, place: DistContext) -> Callable[..., Tensor | float]:
    """A function (inputs, targets, documents, scale, is_first, is_last) that adds gradients of a micro-batch's summed
    loss times `scale`, and returns that loss; is_first and is_last: of its step.

    Raises UserError for precision=bf16-matmul where the compiled kernels do not compute the model."""
    device, ranks = place.device, place.num_processes
    model.checkpoint_activations = config.checkpoint_activations
    net, hold = wrap_ddp(Objective(model), place)
    # CUDA graphs write gradients to fixed addresses, where the next micro-batch would overwrite the last one's
    if not place.sharded:
        net = compile_if_asked(net, model, config, device, cuda_graphs=ranks == 1 and config.grad_accum_steps == 1)
    for block in model.blocks if place.sharded else ():  # the hooks that gather a block's weights stay uncompiled
        block.forward = compile_if_asked(block.forward, model, config, device, cuda_graphs=False)
    bf16 = uses_bf16(config, device)
    alone = ranks == 1 and not place.sharded and config.compile is not True and not bf16
    rounded = config.precision == "bf16-matmul"
    fused = fuse_objective(model, rounded) if alone else None
    if rounded and fused is None:
        raise UserError(
            "precision=bf16-matmul needs the compiled kernels (docs/kernels.md), one process and a "
            "CPU; use fp32, or bf16 on a GPU"
        )

    compiled = False

    def differentiate(
        inputs: Tensor, targets: Tensor, documents: Tensor | None, scale: float, is_first: bool, is_last: bool
    ) -> Tensor | float:
        nonlocal compiled
        if is_first:  # the parts of a step are all computed by the same path
            compiled = fused is not None and fused.applies()
            if rounded and not compiled:
                raise UserError("precision=bf16-matmul goes with the compiled kernels only; remove the model's hooks")
        if fused is not None and compiled:
            return fused(inputs, targets, documents, scale, add=not is_first)
        with nullcontext() if is_last else hold():
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = net(inputs, targets, documents) * scale
            (loss * ranks).backward()  # DDP averages gradients over ranks; the batch needs their sum
        return loss.detach()

    return differentiate


_compiled: list[Any] = []  # the shape of the last model that was compiled


def compile_if_asked(net: Any, model: Decoder, config: TrainConfig, device: torch.device, cuda_graphs: bool) -> Any:
    """The module or function, compiled if config and device ask for it; cuda_graphs: use CUDA graphs on a GPU.

    Models of one shape share what is compiled for the first of them.
    """
    if config.compile is not True and (config.compile != "auto" or device.type != "cuda"):
        return net
    settings = (config.batch_size, config.grad_accum_steps, config.seq_len, config.document_mask, config.precision)
    shape = (model.config, model.vocab_size, *settings, config.checkpoint_activations, cuda_graphs, device.type)
    if _compiled != [shape]:
        torch.compiler.reset()  # else dynamo falls back to eager after eight shapes in one process
        _compiled[:] = [shape]
    return torch.compile(net, mode="reduce-overhead" if cuda_graphs and device.type == "cuda" else None, dynamic=False)


def uses_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the forward pass runs under bf16 autocast."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
