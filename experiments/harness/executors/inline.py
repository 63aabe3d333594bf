"""The inline executor: a few processes of this machine, under one progress bar.

A worker process loads the experiment's file and looks its runs up by id, so that only text is sent; StaticRuns are
pickled. Workers are kept for the experiments of one command. Runs that another command is busy with come last.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from typing import Any

from experiments.harness.executors.job_spec import ExecutorConfig, JobSpec, default_jobs
from experiments.harness.executors.worker import (
    StepDelta,
    execute_by_id,
    execute_in_turn,
    set_num_threads,
    submit_then_retry_busy,
)
from experiments.harness.provenance import cores
from experiments.harness.run import Run
from synth.errors import UserError

PRELOAD = "experiments.harness.executors.preload"
STOPS = (signal.SIGINT, signal.SIGTERM)
_step_counter: Any = None  # in a worker: the number of steps done by all workers together
_workers: "_Workers | None" = None  # kept for the next runs
_keepers = 0  # contexts of `kept_workers` that are open


def execute_all(spec: JobSpec, runs: list[Run], config: ExecutorConfig, bar: Any) -> Iterator[Run]:
    """Yield each run when it is done. One job is this process, with all threads; default: one per core, one with a
    GPU."""
    jobs = min(config.jobs or default_jobs(), len(runs))
    if jobs == 1:
        return execute_in_turn(spec, runs, lambda run: StepDelta(bar.update))
    return _execute_in_pool(spec, runs, jobs, bar)


@contextmanager
def kept_workers() -> Iterator[None]:
    """Context in which worker processes are kept for the next call of `execute_all`, as a new one imports and compiles
    for seconds."""
    global _keepers
    _keepers += 1
    try:
        yield
    finally:
        _keepers -= 1
        if not _keepers:
            _end_workers()


def prepare(config: ExecutorConfig) -> None:
    """Start the server of worker processes, if there will be any, so that it imports while this process does."""
    if min(config.jobs or cores(), cores()) > 1:
        _start_server()


def _start_server() -> None:
    """Start the server whose forks are the workers; it outlives them, as the parent waits for them through it.

    Ctrl-C and SIGTERM may reach all processes. The server inherits that they are ignored.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOAD])
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS if in_main_thread}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Workers:
    """Worker processes of one thread or more each, started when they are needed, and the steps that they do."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        _start_server()  # which computes nothing: a fork of this process could not use CUDA or torch's thread pools
        context = multiprocessing.get_context("forkserver")
        self.counter = context.Value("q", 0)
        given = (self.counter, max(1, cores() // jobs), dict(os.environ))
        self.pool = ProcessPoolExecutor(jobs, context, initializer=_init_worker, initargs=given)


def _workers_for(jobs: int) -> _Workers:
    global _workers
    if _workers is None or _workers.jobs != jobs:
        _end_workers()
        _workers = _Workers(jobs)
    return _workers


def _end_workers() -> None:
    global _workers
    if _workers is not None:
        _workers.pool.shutdown(cancel_futures=True)
    _workers = None


def _execute_in_pool(spec: JobSpec, runs: list[Run], jobs: int, bar: Any) -> Iterator[Run]:
    with kept_workers():
        workers = _workers_for(jobs)
        begun = bar.n - workers.counter.value
        try:
            yield from submit_then_retry_busy(
                runs,
                lambda identity, wait: workers.pool.submit(_work, spec, identity, wait),
                lambda futures: _as_completed(futures, workers.counter, bar, begun),
            )
        except BaseException as error:
            _stop(list(workers.pool._processes.values()))  # and no other process that the caller has started
            _end_workers()
            if isinstance(error, BrokenProcessPool):
                problem = "a worker process was killed (out of memory?)"
                raise UserError(f"{problem}; run again with fewer --jobs, finished runs are kept") from None
            raise


def _as_completed(futures: Iterable[Future], counter: Any, bar: Any, begun: int) -> Iterator[tuple[Future, bool]]:
    """Yield futures with their results as they end; meanwhile bring the bar to `begun` and the counter."""
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


def _init_worker(counter: Any, threads: int, environment: dict[str, str]) -> None:
    global _step_counter
    _step_counter = counter
    os.environ.clear()  # the server may have been started with another one
    os.environ.update(environment)
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


def _work(spec: JobSpec, identity: str, wait: bool) -> bool:
    """Execute a run in a worker process (see `execute_by_id`)."""
    return execute_by_id(spec, identity, wait, lambda run: StepDelta(_add))
