"""Several processes at one training, as `accelerate launch` or torchrun start them.

Data parallel (DDP) keeps a whole model in every process and averages gradients. Under `accelerate launch --use_fsdp`
(ACCELERATE_USE_FSDP=true; its other options are not read) every process holds a shard of the weights, gradients and
optimizer state, and a block is gathered only while it computes: ZeRO stage 3 (arXiv 1910.02054) by torch's fully_shard.
Both give the numbers of one process, but for the order in which sums are taken.
"""

import atexit
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from lm.model import Decoder

TIMEOUT = timedelta(days=30)  # ranks wait while the first one evaluates; torch's default of 10 to 30 minutes is short
_single_process = False


@dataclass(frozen=True)
class DistContext:
    """Device and rank of this process, the number of ranks, and whether weights are sharded (FSDP)."""

    device: torch.device
    process_index: int = 0
    num_processes: int = 1
    sharded: bool = False

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0

    def wait_for_everyone(self) -> None:
        if self.num_processes > 1:
            _partial_state().wait_for_everyone()


def dist_context() -> DistContext:
    """The context of this process, as `accelerate launch` or torchrun set it up."""
    from accelerate.utils import parse_flag_from_env

    started = _partial_state()
    if _single_process or started.num_processes == 1:
        return DistContext(started.device)
    sharded = bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))
    return DistContext(started.device, started.process_index, started.num_processes, sharded)


@cache
def _partial_state() -> Any:
    """Accelerate's PartialState, which joins the process group when it is first made."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate takes several CPU processes for unrelated ones unless cpu is set
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=TIMEOUT)
    if state.num_processes > 1:
        atexit.register(state.destroy_process_group)  # a rank that ends without it takes the others down
    return state


@contextmanager
def single_process(enabled: bool = True) -> Iterator[None]:
    """Within the block dist_context() describes this process alone, so that one rank can train something while the
    others wait; with enabled=False the whole group again."""
    global _single_process
    before, _single_process = _single_process, enabled
    try:
        yield
    finally:
        _single_process = before


def any_rank(flag: bool, place: DistContext) -> bool:
    """Whether the flag is true on any rank. A collective call: all ranks must make it."""
    return bool(max_over_ranks(int(flag), place))


def max_over_ranks(number: int, place: DistContext) -> int:
    """The largest of the ranks' numbers. A collective call."""
    if place.num_processes == 1:
        return number
    found = torch.tensor(number, device=place.device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


def shard_model(model: Decoder, place: DistContext) -> Decoder:
    """The module that this process trains: the model itself, or with FSDP a sharded copy; the model then stays on the
    CPU, as a GPU may not hold it, until `unshard_into`."""
    if not place.sharded:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    part = copy.deepcopy(model.cpu())
    mesh = init_device_mesh(place.device.type, (place.num_processes,))
    for module in [*part.blocks, part]:  # one after another, so that no GPU ever holds the whole model
        fully_shard(module, mesh=mesh)
    for block in part.blocks:
        _pass_aux_losses_by_reference(block)
    return part


def _pass_aux_losses_by_reference(block: nn.Module) -> None:
    """Hide the list to which layers append auxiliary losses (lm/layers/moe.py) from fully_shard's hook, which copies
    lists, so that losses appended to the copy would be lost."""
    block.register_forward_pre_hook(lambda _, args: (*args[:-1], lambda: args[-1]), prepend=True)
    block.register_forward_pre_hook(lambda _, args: (*args[:-1], args[-1]()))


@torch.no_grad()
def unshard_into(part: Decoder, model: Decoder) -> None:
    """Copy the trained weights of `part` (from `shard_model`) into the model. A collective call."""
    if part is model:
        return
    weights = part.state_dict()
    for name, tensor in model.state_dict().items():
        tensor.copy_(full_tensor(weights[name]))


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole tensor, gathered from all ranks if it is sharded. A collective call."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gather_full_tensors(tensors: Mapping[str, Tensor], on_this_rank: bool) -> dict[str, Tensor]:
    """The whole tensors, gathered one at a time, on the ranks that keep them; those that were sharded on the CPU."""
    found = {}
    for name, tensor in sorted(tensors.items()):  # all ranks must gather in the same order
        full = full_tensor(tensor)
        if on_this_rank:
            found[name] = full if full is tensor else full.cpu()
    return found


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's shard of a whole tensor if `like` is sharded, else the tensor."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh  # type: ignore[attr-defined]
    placements = like.placements  # type: ignore[attr-defined]
    # every rank has read the same file: nothing to communicate
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)


def wrap_ddp(net: nn.Module, place: DistContext) -> tuple[Any, Callable[[], AbstractContextManager[Any]]]:
    """The objective with gradients averaged over ranks (DDP), and the no_sync context for gradient accumulation.

    With FSDP nothing is wrapped and gradients are reduced at every micro-batch: keeping them back would take the memory
    of whole gradients.
    """
    if place.num_processes == 1 or place.sharded:
        return net, nullcontext
    parallel = nn.parallel.DistributedDataParallel(net)
    return parallel, parallel.no_sync
