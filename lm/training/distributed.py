"""Several processes at one training, as `accelerate launch` or torchrun start them.

Data parallel keeps a whole model in every process and averages the gradients. Under `accelerate launch --use_fsdp`
(ACCELERATE_USE_FSDP=true; its further options are not read) every process keeps its part of each weight, of the
gradient and of what the optimizer remembers, and a block is whole only while it computes: ZeRO stage 3 (arXiv
1910.02054) by torch's fully_shard. Both train as one process does, but for the order in which sums are taken.
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

PATIENCE = timedelta(days=30)  # ranks wait while the first one measures, for which torch's 10 to 30 minutes are short
_alone = False


@dataclass(frozen=True)
class Place:
    """The device of this process, and its number among those that train together."""

    device: torch.device
    process_index: int = 0
    num_processes: int = 1
    sharded: bool = False

    @property
    def is_main_process(self) -> bool:
        return self.process_index == 0

    def wait_for_everyone(self) -> None:
        if self.num_processes > 1:
            _started().wait_for_everyone()


def where() -> Place:
    """Device and rank of this process, as `accelerate launch` or torchrun set them."""
    from accelerate.utils import parse_flag_from_env

    started = _started()
    if _alone or started.num_processes == 1:
        return Place(started.device)
    sharded = bool(parse_flag_from_env("ACCELERATE_USE_FSDP"))
    return Place(started.device, started.process_index, started.num_processes, sharded)


@cache
def _started() -> Any:
    """Accelerate's PartialState, after it has met the other processes."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # without being told, accelerate would take several CPU processes for unrelated ones
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    if state.num_processes > 1:
        atexit.register(state.destroy_process_group)  # a rank that leaves without it takes the others down
    return state


@contextmanager
def alone(yes: bool = True) -> Iterator[None]:
    """Within it `where` tells of this process only, so that it can train something while the others wait for it;
    alone(False) ends that for a while."""
    global _alone
    before, _alone = _alone, yes
    try:
        yield
    finally:
        _alone = before


def anywhere(flag: bool, place: Place) -> bool:
    """Whether it holds in any rank. All must ask."""
    return bool(furthest(int(flag), place))


def furthest(number: int, place: Place) -> int:
    """The largest of the ranks' numbers. All must ask."""
    if place.num_processes == 1:
        return number
    found = torch.tensor(number, device=place.device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


def spread(model: Decoder, place: Place) -> Decoder:
    """What this process trains: the model itself or, sharded, its part of a copy. The model then waits on the CPU, as
    a GPU may not hold it, for `collect`."""
    if not place.sharded:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    part = copy.deepcopy(model.cpu())
    mesh = init_device_mesh(place.device.type, (place.num_processes,))
    for module in [*part.blocks, part]:  # moves one after another to the device, so that no GPU ever holds all of them
        fully_shard(module, mesh=mesh)
    for block in part.blocks:
        _hide_costs(block)
    return part


def _hide_costs(block: nn.Module) -> None:
    """Keep the list that layers add their costs to (lm/layers/moe.py) from the hook of fully_shard: it takes lists
    apart and makes new ones, and what a layer adds to those is lost."""
    block.register_forward_pre_hook(lambda _, args: (*args[:-1], lambda: args[-1]), prepend=True)
    block.register_forward_pre_hook(lambda _, args: (*args[:-1], args[-1]()))


@torch.no_grad()
def collect(part: Decoder, model: Decoder) -> None:
    """Give the model the weights that `spread` has spread. All ranks must take part."""
    if part is model:
        return
    weights = part.state_dict()
    for name, tensor in model.state_dict().items():
        tensor.copy_(whole(weights[name]))


def whole(tensor: Tensor) -> Tensor:
    """A tensor together with the parts that other ranks have of it. All must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Each tensor whole, in the ranks that keep it: one at a time, and those that were in parts on the CPU."""
    found = {}
    for name, tensor in sorted(tensors.items()):  # a file may have been read in another order in another rank
        full = whole(tensor)
        if keep:
            found[name] = full if full is tensor else full.cpu()
    return found


def parted(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as what this rank has of it, if it is to take the place of one that is in parts."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh  # type: ignore[attr-defined]
    placements = like.placements  # type: ignore[attr-defined]
    # every rank has read the same file, so that none has to be sent its part
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)


def exchanging(net: nn.Module, place: Place) -> tuple[Any, Callable[[], AbstractContextManager[Any]]]:
    """An objective whose gradients are averaged over the ranks, and a context in which they are not yet.

    Where weights are in parts so are gradients from the first micro-batch on: to hold them back would take the memory
    of whole ones.
    """
    if place.num_processes == 1 or place.sharded:
        return net, nullcontext
    parallel = nn.parallel.DistributedDataParallel(net)
    return parallel, parallel.no_sync
