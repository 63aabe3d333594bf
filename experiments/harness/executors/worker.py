"""What a worker does with the runs that it is given, whatever executor gave them.

Progress is told in steps: in one machine by a shared counter, else by a small file per run, beside the runs.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments.harness.execution.execute import execute
from experiments.harness.execution.trainings import check, train_together
from experiments.harness.executors.job_spec import Plan
from experiments.harness.provenance import ROOT
from experiments.harness.run import Run, run_id

Telling = Callable[[Run], Callable[[int], None]]  # for a run, what is called with the number of its steps done
Handle = TypeVar("Handle")
EVERY = 0.5  # seconds between two writes of a run's progress


def carry_out(
    group: list[Run], root: Path, wait: bool, telling: Telling, track: str = ""
) -> Iterator[tuple[Run, bool]]:
    """Train the models of a group at once, then do each run; False for one that another command is busy with."""
    told = [telling(run) for run in group]
    if len(group) > 1:
        for run in group:
            check(run)
        train_together(group, root, told, track)
    for run, steps in zip(group, told, strict=True):
        yield run, execute(run, root, wait, steps, track) is not None


def by_ids(plan: Plan, identities: Sequence[str], wait: bool, telling: Telling) -> list[bool]:
    """Carry out a group that a worker was given by ids, and say of each run whether it is done."""
    return [done for _, done in carry_out(plan.named(identities), plan.root, wait, telling, plan.track)]


def in_two_rounds(
    groups: list[list[Run]],
    submit: Callable[[list[str], bool], Handle],
    ended: Callable[[Iterable[Handle]], Iterator[tuple[Handle, list[bool]]]],
) -> Iterator[Run]:
    """Submit all groups, by ids, and yield their runs as they are done; those that another command was busy with are
    submitted a second time, to wait for it. ended: yields handles as they end, with what `carry_out` said of each run.
    """
    for wait in (False, True):
        handles = {submit([run_id(run) for run in group], wait): group for group in groups}
        busy = []
        for handle, dones in ended(list(handles)):
            for run, done in zip(handles[handle], dones, strict=True):
                if done:
                    yield run
                else:
                    busy.append([run])
        groups = busy


def use_threads(threads: int) -> None:
    """Let this process compute with so many; OMP_NUM_THREADS may ask for fewer."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))


def use_one_thread() -> None:
    """As every run on a cluster has on a CPU."""
    import torch

    if not torch.cuda.is_available():
        use_threads(1)


def python_path() -> str:
    """Where the processes of a cluster find the suite, and what this one finds."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


class Steps:
    """Turns "k steps are done" into "so many more"; steps of an earlier attempt count when they are first told."""

    def __init__(self, add: Callable[[int], Any]) -> None:
        self.add, self.last = add, 0

    def __call__(self, step: int) -> None:
        self.add(step - self.last)
        self.last = step


class Beat:
    """Writes the steps that are done to a run's file, now and then; what cannot be written is not told."""

    def __init__(self, root: Path, run: Run) -> None:
        self.path, self.next = beat_of(root, run), 0.0
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: int) -> None:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + EVERY
            try:
                self.path.write_text(str(step))
            except OSError:
                pass  # the training itself says what is wrong with the disk


def beat_of(root: Path, run: Run) -> Path:
    """The file of a run's steps."""
    return root / ".progress" / run_id(run)


def steps_done(root: Path, runs: Sequence[Run]) -> int:
    """By the files of runs that are under way."""
    return sum(min(_number(beat_of(root, run)), run.steps) for run in runs)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
