"""The Ray executor: groups of runs as tasks of Ray Core, on this machine or on a cluster.

A task takes one processor, and on a GPU the share of a card that --gpus says, so that several small runs share one. A
task whose worker or node dies is done again elsewhere: what was trained lies in the folder of runs, which all nodes
must share, and the lock of a dead process is free.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.harness.execution.execute import finished
from experiments.harness.execution.grouping import in_groups
from experiments.harness.executors.job_spec import Plan, Where, default_jobs
from experiments.harness.executors.worker import (
    Beat,
    beat_of,
    by_ids,
    in_two_rounds,
    python_path,
    steps_done,
    use_one_thread,
)
from experiments.harness.run import Run
from synth.errors import UserError

RETRIES = 3  # of a task whose worker or node died
PATIENCE = 30.0  # seconds in which tasks that are stopped may save
STORE = 1 << 27  # bytes of Ray's shared memory: nothing but ids travels


def carry_out(plan: Plan, waiting: list[Run], where: Where, bar: Any) -> Iterator[Run]:
    """Yield each run as it is done. jobs: processors that a Ray of this machine has, by default one per core; a cluster
    has its own."""
    import ray

    plan = replace(plan, root=plan.root.resolve())  # workers may stand in another folder
    _connect(ray, where)
    tasks: list[Any] = []

    def submit(identities: list[str], wait: bool) -> Any:
        tasks.append(task.remote(plan, identities, wait, mark))
        return tasks[-1]

    try:
        gpus = where.gpus if where.gpus is not None else float(ray.cluster_resources().get("GPU", 0) > 0)
        slots = _slots(ray.cluster_resources(), gpus)
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_work)
        mark = _mark(plan.root)
        for run in in_two_rounds(
            in_groups(waiting, plan.root, slots),
            submit,
            lambda handles: _as_completed(ray, handles, plan.root, waiting, bar),
        ):
            beat_of(plan.root, run).unlink(missing_ok=True)
            yield run
    except BaseException:
        for each in tasks:
            ray.cancel(each)  # as Ctrl-C, so that it saves what it trains
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE)
        raise
    finally:
        ray.shutdown()


def check(where: Where) -> None:
    """Raise UserError where there is no Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    if where.address and where.jobs:
        raise UserError("--jobs is for a Ray of this machine; a cluster has its own processors, so leave it out")
    if find_spec("ray") is None:
        raise UserError("--executor ray needs Ray; install it with: pip install 'physics-of-lms[cluster]'")


def _connect(ray: Any, where: Where) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    everywhere = {"runtime_env": {"env_vars": {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}}}
    heeding = signal.getsignal(signal.SIGTERM)
    try:
        if where.address:
            _require_answer(where.address)
            ray.init(address=where.address, **quiet, **everywhere)
        else:
            jobs = where.jobs or default_jobs()
            ray.init("local", num_cpus=jobs, include_dashboard=False, object_store_memory=STORE, **quiet, **everywhere)
    except (OSError, ValueError, RuntimeError) as error:
        mend = "start one with `ray start --head`, or leave --address out to use this machine"
        raise UserError(
            f"no Ray {f'at {where.address}' if where.address else 'here'} ({_first_line(error)}); {mend}"
        ) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, heeding)  # Ray has put its own in the place, which ends without a word


def _require_answer(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for most of a minute."""
    host, sign, port = address.rpartition(":")
    if sign and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _slots(resources: dict[str, float], gpus: float) -> int:
    """Tasks at a time. Raises UserError where there is no room for one."""
    if gpus and not resources.get("GPU"):
        raise UserError(f"--gpus {gpus:g}: this Ray has no GPU; leave --gpus out, or start Ray where there are some")
    room = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 0)
    if room < 1:
        raise UserError(f"this Ray has no room for a run that takes {gpus:g} GPUs and a processor; add a node to it")
    return int(min(room, resources.get("CPU", room)))


def _mark(root: Path) -> str:
    """A file by which a node sees that it has the same folder of runs."""
    mark = root / ".progress" / "shared"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return str(mark)


def _as_completed(
    ray: Any, tasks: Iterable[Any], root: Path, runs: list[Run], bar: Any
) -> Iterator[tuple[Any, list[bool]]]:
    """The tasks as they end; in between the bar follows the files of the runs under way."""
    pending = list(tasks)
    while pending:
        ended, pending = ray.wait(pending, timeout=0.5)
        over = [finished(run, root) for run in runs]
        steps = sum(run.steps for run, done in zip(runs, over, strict=True) if done)
        steps += steps_done(root, [run for run, done in zip(runs, over, strict=True) if not done])
        bar.update(steps - bar.n)
        for each in ended:
            yield each, _result(ray, each)


def _result(ray: Any, task: Any) -> list[bool]:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
        what = (
            f"a run was lost {RETRIES + 1} times (out of memory?)" if isinstance(error, lost) else "Ray gave a run up"
        )
        raise UserError(
            f"{what}: {_first_line(error)}; finished runs are kept, run the same command to go on"
        ) from None


def _first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _work(plan: Plan, identities: list[str], wait: bool, mark: str) -> list[bool]:
    """Do the runs of a group in a worker of Ray; False for each that another command is busy with."""
    if not Path(mark).exists():
        node = os.uname().nodename
        raise UserError(f"node {node} does not see {plan.root}; give --runs a folder that all nodes share")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored, and it cancels a task
    use_one_thread()
    return by_ids(plan, identities, wait, lambda run: Beat(plan.root, run))
