"""The inline executor: the runs of an experiment in a few processes of this machine, under one progress bar.

A worker process loads the experiment's file and looks its run up by id, so that nothing but text travels; only runs of
no experiment are sent themselves. Runs of small models go in groups whose models are trained at once (groups.py). Runs
that another command is busy with are put last and then waited for.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.harness.execute import execute, finished
from experiments.harness.groups import in_groups
from experiments.harness.models import check, train_together
from experiments.harness.provenance import cores
from experiments.harness.runs import Run, run_id
from synth.errors import UserError

EXECUTORS = ("inline",)
_counter: Any = None  # in a worker: the number of steps done by all workers together


class Source(Protocol):
    """What lists runs, in every process the same: an Experiment, or `Listed`."""

    def runs(self, scale: str, seeds: int | None = None) -> Sequence[Run]: ...


@dataclass(frozen=True)
class Listed:
    """Runs that are in no experiment's file."""

    listed: tuple[Run, ...]

    def runs(self, scale: str, seeds: int | None = None) -> Sequence[Run]:
        return self.listed


@dataclass(frozen=True)
class Plan:
    """What a worker needs to find its runs again; track: a tracker of lm.tracking, or "", that shows trainings."""

    experiment: Source
    scale: str
    seeds: int | None
    root: Path
    track: str = ""


def default_jobs() -> int:
    """One process per core, or a single one where a GPU does the work."""
    import torch

    return 1 if torch.cuda.is_available() else cores()


def run_all(plan: Plan, runs: list[Run], jobs: int | None, done: Callable[[Run], None], bar: Any = None) -> None:
    """Carry out the runs that have no result yet; `done` is called after each.

    jobs: processes at a time, by default one per core; bar: a larger one, at 0, that these runs are part of (counted in
    steps, as tqdm's), by default one of their own. Raises UserError or OSError of the first run that fails;
    finished runs keep their results.
    """
    waiting = [run for run in runs if not finished(run, plan.root)]
    if not waiting:
        return
    jobs = min(jobs or default_jobs(), len(waiting))
    with _bar(waiting, len(runs)) if bar is None else nullcontext(bar) as bar:
        completed = _here(plan, waiting, bar) if jobs == 1 else _in_workers(plan, waiting, jobs, bar)
        for run in completed:
            count = sum(finished(each, plan.root) for each in runs)
            bar.set_postfix_str(f"{count} of {len(runs)} runs", refresh=sys.stderr.isatty())
            done(run)


def _bar(waiting: list[Run], total: int) -> Any:
    from tqdm import tqdm

    steps = sum(run.steps for run in waiting)
    # a log file wants a line now and then, a terminal a moving bar
    interval = 0.2 if sys.stderr.isatty() else 60.0
    already = f"{total - len(waiting)} of {total} runs"
    return tqdm(total=steps, unit="step", mininterval=interval, maxinterval=interval, postfix=already, smoothing=0.05)


def _here(plan: Plan, waiting: list[Run], bar: Any) -> Iterator[Run]:
    """One group after another in this process, with all threads."""
    busy = []
    for group in in_groups(waiting, plan.root, 1):
        for run, done in _carry_out(group, plan.root, False, bar.update, plan.track):
            if done:
                yield run
            else:
                busy.append(run)
    for run in busy:
        execute(run, plan.root, progress=_Steps(bar.update), track=plan.track)
        yield run


def _carry_out(
    group: list[Run], root: Path, wait: bool, add: Callable[[int], Any], track: str = ""
) -> Iterator[tuple[Run, bool]]:
    """Train the models of a group at once, then do each run; False for one that another command is busy with."""
    told = [_Steps(add) for _ in group]
    if len(group) > 1:
        for run in group:
            check(run)
        train_together(group, root, told, track)
    for run, steps in zip(group, told, strict=True):
        yield run, execute(run, root, wait, steps, track) is not None


class _Steps:
    """Turns "k steps are done" into "so many more"; steps of an earlier attempt count when they are first told."""

    def __init__(self, add: Callable[[int], Any]) -> None:
        self.add, self.last = add, 0

    def __call__(self, step: int) -> None:
        self.add(step - self.last)
        self.last = step


def _in_workers(plan: Plan, waiting: list[Run], jobs: int, bar: Any) -> Iterator[Run]:
    context = multiprocessing.get_context("spawn")  # a forked child cannot use CUDA or torch's thread pools
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin_worker, initargs=(counter, max(1, cores() // jobs)))
    try:
        groups = in_groups(waiting, plan.root, jobs)
        for wait in (False, True):
            futures = {pool.submit(_work, plan, [run_id(run) for run in group], wait): group for group in groups}
            busy = []
            for future in _as_completed(futures, counter, bar):
                for run, done in zip(futures[future], future.result(), strict=True):
                    if done:
                        yield run
                    else:
                        busy.append([run])
            groups = busy
    except BaseException as error:
        for child in multiprocessing.active_children():
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            problem = "a worker process was killed (out of memory?)"
            raise UserError(f"{problem}; run again with fewer --jobs, finished runs are kept") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _as_completed(futures: Iterable[Future], counter: Any, bar: Any) -> Iterator[Future]:
    """The futures as they end; in between the bar follows the counter."""
    pending = set(futures)
    while pending:
        ended, pending = concurrent.futures.wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        bar.update(counter.value - bar.n)
        yield from ended


def _begin_worker(counter: Any, threads: int) -> None:
    global _counter
    _counter = counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent says one line and ends its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    os.environ.setdefault("NUMBA_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))  # OMP_NUM_THREADS may ask for fewer


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _add(steps: int) -> None:
    with _counter.get_lock():
        _counter.value += steps


def _work(plan: Plan, identities: list[str], wait: bool) -> list[bool]:
    """Do the runs of a group in a worker; False for each that another command is busy with."""
    runs = {run_id(run): run for run in plan.experiment.runs(plan.scale, plan.seeds)}
    group = [runs[identity] for identity in identities]
    return [done for _, done in _carry_out(group, plan.root, wait, _add, plan.track)]
