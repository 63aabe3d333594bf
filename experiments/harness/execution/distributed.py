"""Several ranks at one experiment, as `accelerate launch experiments/NN_name.py` or torchrun start them.

The first rank does what a single process does: it takes one run after another, reads, measures, writes and prints. When
it comes to a training it tells the others which one, a run's id and the number of the stage. They look the run up in
the experiment, as worker processes do, and train beside it (lm/training/distributed.py). Models that are small enough
for a stack (fitting.py) it trains alone, so that a table does not depend on the launcher. On several machines the
folder of runs must be one that all of them see.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from experiments.harness.run import Run, run_id
from synth.errors import UserError

if TYPE_CHECKING:
    from experiments.harness.executors.job_spec import Plan, Where

LENGTH = 64  # bytes of an order
DONE, STOP = "done", "stop"  # the plan is carried out; the first rank has failed
_listening = False  # in the first rank: the others wait for an order


def several() -> bool:
    """Whether a launcher has started other ranks beside this process."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def led(plan: "Plan") -> Iterator[bool]:
    """Whether this process is to carry out the plan: a single one is, and of several ranks the first.

    The others have, once they are told no, taken part in all trainings of it; where the first one fails they end.
    """
    if not several():
        yield True
        return
    from lm.training.distributed import alone, where

    first = where().is_main_process
    _channel()  # all ranks must come here, whatever happens to them later
    if not first:
        _follow(plan)
        yield False
        return
    global _listening
    _listening, last = True, STOP
    try:
        with alone():  # a measurement may train something, and the others know nothing of it
            yield True
        last = DONE
    finally:
        if _listening:
            _tell(last)
        _listening = False


@contextmanager
def together(run: Run, stages: int) -> Iterator[None]:
    """Within it the other ranks, where this process leads some, train the stage with this number (from 1) as well."""
    global _listening
    if not _listening:
        yield
        return
    from lm.training.distributed import alone

    _tell(f"{run_id(run)} {stages}")
    _listening = False  # a training that fails here has failed in all ranks, or those left are ended by the launcher
    with alone(False):
        yield
    _listening = True


def in_ranks(where: "Where") -> "Where":
    """Where runs are carried out when there are several ranks: in the first one.

    Raises UserError where processes beside it are asked for, or where it does not lead the others.
    """
    if where.executor != "inline" or (where.jobs or 1) > 1:
        raise UserError("several ranks work on one run at a time; leave out --jobs and --executor, or the launcher")
    if not _listening:
        raise UserError("this command is for a single process; start it without accelerate launch or torchrun")
    return replace(where, jobs=1)


def _follow(plan: "Plan") -> None:
    """Take part in trainings until the first rank says that it has done with the plan."""
    runs: dict[str, Run] = {}
    try:
        while (order := _heard()) not in (DONE, STOP):
            runs = runs or {run_id(run): run for run in plan.experiment.runs(plan.scale, plan.seeds)}
            identity, stages = order.split()
            _take_part(plan, runs[identity], int(stages))
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # the first rank says it for all
    if order == STOP:
        raise SystemExit(0)


def _take_part(plan: "Plan", run: Run, stages: int) -> None:
    """Train one stage; the first rank keeps the model, and has kept the one before."""
    from experiments.harness.execution.fit import fit
    from experiments.harness.execution.trainings import folder_of, train_stage, trained

    if stages > 1 and not folder_of(run, plan.root, stages - 1).exists():
        raise UserError(
            f"{plan.root} is not the folder that the first rank has; give --runs one that all machines share"
        )
    before = trained(run, plan.root, True, _silent, stages - 1)
    assert before is not None
    checkpoint = folder_of(run, plan.root, stages).with_suffix(".partial") / "checkpoint"
    train_stage(run, run.trainings[stages - 1], before.model, fit, checkpoint, _silent)


def _silent(step: int) -> None:
    """The first rank shows how far all have come."""


@cache
def _channel() -> Any:
    """A group of its own for orders: over gloo, as a rank that waits in nccl would keep a GPU busy."""
    import torch

    from lm.training.distributed import PATIENCE

    return torch.distributed.new_group(timeout=PATIENCE, backend="gloo")


def _tell(order: str) -> None:
    import torch

    line = torch.tensor(list(order.encode().ljust(LENGTH)), dtype=torch.uint8)
    torch.distributed.broadcast(line, 0, group=_channel())


def _heard() -> str:
    import torch

    line = torch.zeros(LENGTH, dtype=torch.uint8)
    torch.distributed.broadcast(line, 0, group=_channel())
    return bytes(line.tolist()).decode().strip()
