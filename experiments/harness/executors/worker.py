"""Work of a worker process, the same for all executors.

Progress is reported in optimizer steps: on one machine by a shared counter, otherwise by a small file per run.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments.harness.execution.execute import execute, has_result
from experiments.harness.executors.job_spec import JobSpec
from experiments.harness.provenance import ROOT
from experiments.harness.run import Run, run_id

ProgressFactory = Callable[[Run], Callable[[int], None]]  # makes a run's callback, which gets the number of steps done
Handle = TypeVar("Handle")
WRITE_INTERVAL = 0.5  # seconds between two writes of a run's progress


def execute_by_id(spec: JobSpec, identity: str, wait: bool, progress_for: ProgressFactory) -> bool:
    """Execute the run with this id; return whether it is done. It is not if another command is busy with it and `wait`
    is False."""
    run = spec.run_by_id(identity)
    return execute(run, spec.runs_dir, wait, progress_for(run), spec.tracker) is not None


def execute_in_turn(spec: JobSpec, runs: Iterable[Run], progress_for: ProgressFactory) -> Iterator[Run]:
    """Execute runs in this process and yield each when it is done. Runs that another command is busy with come last,
    and are waited for."""
    busy = []
    for run in runs:
        if execute(run, spec.runs_dir, False, progress_for(run), spec.tracker) is None:
            busy.append(run)
        else:
            yield run
    for run in busy:
        execute(run, spec.runs_dir, on_step=progress_for(run), tracker=spec.tracker)
        yield run


def submit_then_retry_busy(
    runs: Sequence[Run],
    submit: Callable[[str, bool], Handle],
    as_completed: Callable[[Iterable[Handle]], Iterator[tuple[Handle, bool]]],
) -> Iterator[Run]:
    """Submit all runs, by id, and yield each when it is done. Runs that another command was busy with are submitted
    again, to wait for it. as_completed: yields handles as they end, with the result of `execute_by_id`.
    """
    for wait in (False, True):
        handles = {submit(run_id(run), wait): run for run in runs}
        busy = []
        for handle, done in as_completed(list(handles)):
            if done:
                yield handles[handle]
            else:
                busy.append(handles[handle])
        runs = busy


def set_num_threads(threads: int) -> None:
    """Limit torch and numba to `threads`, or to fewer if OMP_NUM_THREADS says so."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))


def set_one_thread() -> None:
    """Limit this process to one thread, unless it has a GPU."""
    import torch

    if not torch.cuda.is_available():
        set_num_threads(1)


def python_path() -> str:
    """PYTHONPATH for processes of a cluster: the suite's folder and that of this process."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


class StepDelta:
    """Progress callback that passes on the increase of the number of steps done; a resumed training's steps at once."""

    def __init__(self, on_delta: Callable[[int], Any]) -> None:
        self.on_delta, self.last = on_delta, 0

    def __call__(self, step: int) -> None:
        self.on_delta(step - self.last)
        self.last = step


class ProgressFile:
    """Progress callback that writes the steps done to the run's file at most every 0.5 s; ignores write errors."""

    def __init__(self, root: Path, run: Run) -> None:
        self.path, self.next_write = progress_path(root, run), 0.0
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: int) -> None:
        if time.monotonic() >= self.next_write:
            self.next_write = time.monotonic() + WRITE_INTERVAL
            try:
                self.path.write_text(str(step))
            except OSError:
                pass  # the training itself reports a broken disk


def progress_path(root: Path, run: Run) -> Path:
    """File with the number of steps done of a run that is being executed on a cluster."""
    return root / ".progress" / run_id(run)


def steps_done(root: Path, runs: Sequence[Run]) -> int:
    """Steps done of these runs: all of a finished run, of others what their progress file says."""
    return sum(
        run.steps if has_result(run, root) else min(_read_int(progress_path(root, run)), run.steps) for run in runs
    )


def _read_int(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
