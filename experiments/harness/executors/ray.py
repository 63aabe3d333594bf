"""The Ray executor: runs as tasks of Ray Core, on this machine or on a cluster.

A task takes one core and --gpus GPUs; with a fraction, small runs share a card. A task whose worker or node dies is
retried on another: its checkpoints are in the folder of runs, which all nodes must share, and its locks are free.
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

from experiments.harness.executors.job_spec import ExecutorConfig, JobSpec, default_jobs
from experiments.harness.executors.worker import (
    ProgressFile,
    execute_by_id,
    progress_path,
    python_path,
    set_one_thread,
    steps_done,
    submit_then_retry_busy,
)
from experiments.harness.run import Run
from synth.errors import UserError

RETRIES = 3  # of a task whose worker or node died
SAVE_TIMEOUT = 30.0  # seconds that cancelled tasks have to save their training
OBJECT_STORE_BYTES = 1 << 27  # of Ray's shared memory; only run ids are sent


def execute_all(spec: JobSpec, runs: list[Run], config: ExecutorConfig, bar: Any) -> Iterator[Run]:
    """Yield each run when it is done. jobs: cores of a Ray on this machine, by default all."""
    import ray

    spec = replace(spec, runs_dir=spec.runs_dir.resolve())  # workers may have another working directory
    _connect(ray, config)
    tasks: list[Any] = []

    def submit(identity: str, wait: bool) -> Any:
        tasks.append(remote_work.remote(spec, identity, wait, marker))
        return tasks[-1]

    try:
        resources = ray.cluster_resources()
        gpus = float(resources.get("GPU", 0) > 0) if config.gpus_per_run is None else config.gpus_per_run
        _check_room(resources, gpus)
        remote_work = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_work)
        marker = _touch_marker(spec.runs_dir)
        begun = bar.n
        for run in submit_then_retry_busy(
            runs, submit, lambda tasks: _as_completed(ray, tasks, spec.runs_dir, runs, bar, begun)
        ):
            progress_path(spec.runs_dir, run).unlink(missing_ok=True)
            yield run
    except BaseException:
        for task in tasks:
            ray.cancel(task)  # raises KeyboardInterrupt in it, so that it saves its training
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=SAVE_TIMEOUT)
        raise
    finally:
        ray.shutdown()


def check(config: ExecutorConfig) -> None:
    """Raise UserError if Ray is not installed, or for --jobs on a running cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if config.address and config.jobs:
        raise UserError("--jobs is for a Ray of this machine; a cluster has its own processors, so leave it out")
    if find_spec("ray") is None:
        raise UserError("--executor ray needs Ray; install it with: pip install 'physics-of-lms[cluster]'")


def _connect(ray: Any, config: ExecutorConfig) -> None:
    """Start a Ray on this machine or join the cluster. Raises UserError."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    environment = {"runtime_env": {"env_vars": {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}}}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if config.address:
            _require_listener(config.address)
            ray.init(address=config.address, **quiet, **environment)
        else:
            small = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init("local", num_cpus=config.jobs or default_jobs(), **small, **quiet, **environment)
    except (OSError, ValueError, RuntimeError) as error:
        place = f"at {config.address}" if config.address else "here"
        mend = "start one with `ray start --head`, or leave --address out to use this machine"
        raise UserError(f"no Ray {place} ({_first_line(error)}); {mend}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray's own would exit without a message


def _require_listener(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT; Ray itself would try for most of a minute."""
    host, sign, port = address.rpartition(":")
    if sign and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_room(resources: dict[str, float], gpus: float) -> None:
    """Raise UserError if there is no room for a task."""
    if gpus and not resources.get("GPU"):
        raise UserError(f"--gpus {gpus:g}: this Ray has no GPU; leave --gpus out, or start Ray where there are some")
    room = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 0)
    if room < 1:
        raise UserError(f"this Ray has no room for a run that takes {gpus:g} GPUs and a processor; add a node to it")


def _touch_marker(root: Path) -> str:
    """Make a file by which a node recognizes the shared folder of runs; return its path."""
    marker = root / ".progress" / "shared"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return str(marker)


def _as_completed(
    ray: Any, tasks: Iterable[Any], root: Path, runs: list[Run], bar: Any, begun: int
) -> Iterator[tuple[Any, bool]]:
    """Yield tasks with their results as they end; update the bar, which was at `begun`, from the progress files
    meanwhile."""
    pending = list(tasks)
    while pending:
        ended, pending = ray.wait(pending, timeout=0.5)
        bar.update(begun + steps_done(root, runs) - bar.n)
        for task in ended:
            yield task, _result(ray, task)


def _result(ray: Any, task: Any) -> bool:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
        what = (
            f"a run was lost {RETRIES + 1} times (out of memory?)" if isinstance(error, lost) else "Ray gave a run up"
        )
        mend = "finished runs are kept, run the same command to go on"
        raise UserError(f"{what}: {_first_line(error)}; {mend}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _work(spec: JobSpec, identity: str, wait: bool, marker: str) -> bool:
    """Execute a run in a worker of Ray (see `execute_by_id`)."""
    if not Path(marker).exists():
        node = os.uname().nodename
        raise UserError(f"node {node} does not see {spec.runs_dir}; give --runs-dir a folder that all nodes share")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # cancels a task; a shell may have it ignored
    set_one_thread()
    return execute_by_id(spec, identity, wait, lambda run: ProgressFile(spec.runs_dir, run))
