"""The inline executor: a few processes of this machine, under one progress bar.

A worker process loads the experiment's file and looks its run up by id, so that nothing but text travels; only runs of
no experiment are sent themselves. Runs of small models go in groups whose models are trained at once (groups.py). Runs
that another command is busy with are put last and then waited for.
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

from experiments.harness.execution.execute import execute
from experiments.harness.execution.grouping import in_groups
from experiments.harness.executors.job_spec import Plan, Where, default_jobs
from experiments.harness.executors.worker import Steps, by_ids, in_two_rounds, use_threads
from experiments.harness.executors.worker import carry_out as work_on
from experiments.harness.provenance import cores
from experiments.harness.run import Run
from synth.errors import UserError

_counter: Any = None  # in a worker: the number of steps done by all workers together


def carry_out(plan: Plan, waiting: list[Run], where: Where, bar: Any) -> Iterator[Run]:
    """Yield each run as it is done. jobs: by default one per core, or one with a GPU."""
    jobs = min(where.jobs or default_jobs(), len(waiting))
    return _here(plan, waiting, bar) if jobs == 1 else _in_workers(plan, waiting, jobs, bar)


def _here(plan: Plan, waiting: list[Run], bar: Any) -> Iterator[Run]:
    """One group after another in this process, with all threads."""
    busy = []
    for group in in_groups(waiting, plan.root, 1):
        for run, done in work_on(group, plan.root, False, lambda run: Steps(bar.update), plan.track):
            if done:
                yield run
            else:
                busy.append(run)
    for run in busy:
        execute(run, plan.root, progress=Steps(bar.update), track=plan.track)
        yield run


def _in_workers(plan: Plan, waiting: list[Run], jobs: int, bar: Any) -> Iterator[Run]:
    context = multiprocessing.get_context("spawn")  # a forked child cannot use CUDA or torch's thread pools
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin_worker, initargs=(counter, max(1, cores() // jobs)))
    try:
        yield from in_two_rounds(
            in_groups(waiting, plan.root, jobs),
            lambda identities, wait: pool.submit(_work, plan, identities, wait),
            lambda futures: _as_completed(futures, counter, bar),
        )
    except BaseException as error:
        _stop(multiprocessing.active_children())
        if isinstance(error, BrokenProcessPool):
            problem = "a worker process was killed (out of memory?)"
            raise UserError(f"{problem}; run again with fewer --jobs, finished runs are kept") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _as_completed(futures: Iterable[Future], counter: Any, bar: Any) -> Iterator[tuple[Future, list[bool]]]:
    """The futures as they end; in between the bar follows the counter."""
    pending = set(futures)
    while pending:
        ended, pending = concurrent.futures.wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
        bar.update(counter.value - bar.n)
        for future in ended:
            yield future, future.result()


def _stop(workers: Iterable[Any]) -> None:
    """Ask each to save what it trains and to end, and wait until all have."""
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGUSR1)
    for worker in workers:
        worker.join()


def _begin_worker(counter: Any, threads: int) -> None:
    global _counter
    _counter = counter
    # Ctrl-C and SIGTERM reach all processes: the parent says one line, and stops its workers by a signal of their own,
    # as the pool answers the end of the first by terminating the others while they save
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(1))  # an exception would end the task and not the process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    use_threads(threads)


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
    return by_ids(plan, identities, wait, lambda run: Steps(_add))
