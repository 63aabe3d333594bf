"""One step of training: the loss of a batch, its gradients, cut short, and AdamW with the rate of the schedule."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm.config import TrainConfig
from lm.data.batches import Feed
from lm.data.mlm import IGNORED
from lm.layers.mlp import Costs
from lm.model import Decoder
from lm.training.distributed import Place, exchanging


class Objective(nn.Module):
    """Sum over the targets that count of their losses and of what the layers charge (nats): what is compiled and what
    data parallel wraps."""

    def __init__(self, model: Decoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> Tensor:
        costs: Costs = []
        logits = self.model(inputs, documents, costs=costs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        return loss + sum(costs) * (targets != IGNORED).sum() if costs else loss


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate of step 0, 1, ...: a linear rise over `warmup` steps, then the schedule down to final_lr * lr."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    share = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.schedule]
    floor = 1.0 if config.schedule == "constant" else config.final_lr
    return config.lr * (floor + (1 - floor) * share)


def stepper(
    model: Decoder, config: TrainConfig, optimizer: torch.optim.Optimizer, place: Place
) -> Callable[[Feed, int], Tensor]:
    """The function that takes one optimizer step and returns the mean loss of the whole batch."""
    device, ranks = place.device, place.num_processes
    net, hold = exchanging(Objective(model), place)
    # CUDA graphs write gradients to fixed places, where the next micro-batch would overwrite the last one's
    net = net if place.sharded else compiled(net, config, device, graphs=ranks == 1 and config.accumulate == 1)
    for block in model.blocks if place.sharded else ():  # what makes a block whole is around it and not to be compiled
        block.forward = compiled(block.forward, config, device, graphs=False)
    bf16 = in_bf16(config, device)
    share = config.batch // ranks
    part = share // config.accumulate
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step(data: Feed, number: int) -> Tensor:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, number)
        total = torch.zeros((), device=device)
        begin = place.process_index * share
        for row in range(begin, begin + share, part):
            cut = slice(row, row + part)
            inputs, targets, documents = (
                None if tensor is None else tensor[cut].to(device, non_blocking=True)
                for tensor in (data.inputs, data.targets, data.documents)
            )
            with nullcontext() if row + part == begin + share else hold():
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = net(inputs, targets, documents) / max(data.trained, 1)
                (loss * ranks).backward()  # data parallel averages gradients over the ranks; the batch wants their sum
            total += loss.detach()
        if ranks > 1:
            torch.distributed.all_reduce(total)
        if config.clip:
            nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


def compiled(net: Any, config: TrainConfig, device: torch.device, graphs: bool) -> Any:
    """A module or function as the configuration and the device want it run; graphs: with CUDA graphs on a GPU."""
    if config.compile is not True and (config.compile != "auto" or device.type != "cuda"):
        return net
    torch.compiler.reset()  # else dynamo falls back to eager after eight models in one process
    return torch.compile(net, mode="reduce-overhead" if graphs and device.type == "cuda" else None, dynamic=False)


def in_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether the forward pass runs under bf16 autocast."""
    return config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
