"""The inline executor: a few processes of this machine, under one progress bar.

A worker process loads the experiment's file and looks its runs up by id, so that only text is sent; StaticRuns are
pickled. Runs of small models are trained in groups (grouping.py). Runs that another command is busy with come last.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from experiments.harness.execution.grouping import group_runs
from experiments.harness.executors.job_spec import ExecutorConfig, JobSpec, default_jobs
from experiments.harness.executors.worker import (
    StepDelta,
    execute_by_ids,
    execute_groups,
    set_num_threads,
    submit_then_retry_busy,
)
from experiments.harness.provenance import cores
from experiments.harness.run import Run
from synth.errors import UserError

_step_counter: Any = None  # in a worker: the number of steps done by all workers together


def execute_all(spec: JobSpec, runs: list[Run], config: ExecutorConfig, bar: Any) -> Iterator[Run]:
    """Yield each run when it is done. One job is this process, with all threads; default: one per core, one with a
    GPU."""
    jobs = min(config.jobs or default_jobs(), len(runs))
    groups = group_runs(runs, spec.runs_dir, jobs)
    if jobs == 1:
        return execute_groups(spec, groups, lambda run: StepDelta(bar.update))
    return _execute_in_pool(spec, groups, jobs, bar)


def _execute_in_pool(spec: JobSpec, groups: list[list[Run]], jobs: int, bar: Any) -> Iterator[Run]:
    context = multiprocessing.get_context("spawn")  # a forked child cannot use CUDA or torch's thread pools
    counter, begun = context.Value("q", 0), bar.n
    pool = ProcessPoolExecutor(jobs, context, initializer=_init_worker, initargs=(counter, max(1, cores() // jobs)))
    try:
        yield from submit_then_retry_busy(
            groups,
            lambda identities, wait: pool.submit(_work, spec, identities, wait),
            lambda futures: _as_completed(futures, counter, bar, begun),
        )
    except BaseException as error:
        _stop(multiprocessing.active_children())
        if isinstance(error, BrokenProcessPool):
            problem = "a worker process was killed (out of memory?)"
            raise UserError(f"{problem}; run again with fewer --jobs, finished runs are kept") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _as_completed(futures: Iterable[Future], counter: Any, bar: Any, begun: int) -> Iterator[tuple[Future, list[bool]]]:
    """Yield futures with their results as they end; update the bar, which was at `begun`, from the counter
    meanwhile."""
    pending = set(futures)
    while pending:
        ended, pending = concurrent.futures.wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        bar.update(begun + counter.value - bar.n)
        for future in ended:
            yield future, future.result()


def _stop(workers: Iterable[Any]) -> None:
    """Have each save its training and exit; wait until all have."""
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGUSR1)
    for worker in workers:
        worker.join()


def _init_worker(counter: Any, threads: int) -> None:
    global _step_counter
    _step_counter = counter
    # Ctrl-C and SIGTERM reach all processes: the parent prints one line and stops its workers by SIGUSR1, because the
    # pool, when the first has ended, would terminate the others while they save
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(1))  # an exception would end the task, not the process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    set_num_threads(threads)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _add(steps: int) -> None:
    with _step_counter.get_lock():
        _step_counter.value += steps


def _work(spec: JobSpec, identities: list[str], wait: bool) -> list[bool]:
    """Execute a group in a worker process (see `execute_by_ids`)."""
    return execute_by_ids(spec, identities, wait, lambda run: StepDelta(_add))
