"""An experiment on several ranks, started by `accelerate launch experiments/NN_name.py` or torchrun.

The leader (rank 0) works like a single process. For a training it broadcasts a run's id and the number of a stage; the
followers look the run up in the experiment and join the training (lm/training/distributed.py). Several machines must
share the folder of runs.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from experiments.harness.execution.tuning import runs_and_variants
from experiments.harness.run import Run, run_id

ListRuns = Callable[[], Iterable[Run]]  # the runs of the experiment, the same in every rank
JoinTraining = Callable[[Run, int], None]  # trains a stage (numbered from 1) of a run beside the leader
ORDER_BYTES = 64
DONE, STOP = "done", "stop"  # orders: all runs are executed; the leader has failed
_followers_waiting = False  # in the leader: the followers wait for an order


def is_multi_rank() -> bool:
    """Whether a launcher started this process as one of several ranks."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def leader_only(list_runs: ListRuns, join: JoinTraining) -> Iterator[bool]:
    """Yield True in a single process and in the leader of several ranks, False in its followers.

    Followers get False after they joined every training that the leader announced; if the leader fails they exit.
    """
    if not is_multi_rank():
        yield True
        return
    from lm.training.distributed import dist_context, single_process

    is_leader = dist_context().is_main_process
    _order_group()  # made by all ranks together, before one may fail
    if not is_leader:
        _follow_leader(list_runs, join)
        yield False
        return
    global _followers_waiting
    _followers_waiting, last = True, STOP
    try:
        with single_process():  # an evaluation may train a model on the leader alone
            yield True
        last = DONE
    finally:
        if _followers_waiting:
            _broadcast_order(last)
        _followers_waiting = False


def is_leading() -> bool:
    """Whether this process is the leader and its followers wait for an order."""
    return _followers_waiting


@contextmanager
def train_on_all_ranks(run: Run, stage_number: int) -> Iterator[None]:
    """Context in which the followers, if this process leads any, train the same stage (numbered from 1)."""
    global _followers_waiting
    if not _followers_waiting:
        yield
        return
    from lm.training.distributed import single_process

    _broadcast_order(f"{run_id(run)} {stage_number}")
    # if the training fails it fails in all ranks, or the launcher ends the others
    _followers_waiting = False
    with single_process(False):
        yield
    _followers_waiting = True


def _follow_leader(list_runs: ListRuns, join: JoinTraining) -> None:
    """Join trainings until the leader has executed all runs; ends the process if the leader failed."""
    runs: dict[str, Run] = {}
    try:
        while (order := _receive_order()) not in (DONE, STOP):
            runs = runs or {run_id(run): run for run in runs_and_variants(list_runs())}
            identity, stage_number = order.split()
            join(runs[identity], int(stage_number))
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # the leader prints the message for all ranks
    if order == STOP:
        raise SystemExit(0)


@cache
def _order_group() -> Any:
    """Process group for orders: gloo, as waiting in NCCL would keep a GPU busy."""
    import torch

    from lm.training.distributed import TIMEOUT

    return torch.distributed.new_group(timeout=TIMEOUT, backend="gloo")


def _broadcast_order(order: str) -> None:
    import torch

    line = torch.tensor(list(order.encode().ljust(ORDER_BYTES)), dtype=torch.uint8)
    torch.distributed.broadcast(line, 0, group=_order_group())


def _receive_order() -> str:
    import torch

    line = torch.zeros(ORDER_BYTES, dtype=torch.uint8)
    torch.distributed.broadcast(line, 0, group=_order_group())
    return bytes(line.tolist()).decode().strip()
