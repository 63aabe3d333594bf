"""The Slurm executor: a job array whose jobs share the runs of an experiment, by submitit.

Every job goes through all runs in the same order and executes what no other job is busy with, so that a late job
finds the rest and a lost job's runs are done by another. Before its time limit a job saves its training and is queued
again. submitit pickles jobs in runs/.slurm, which only the owner may enter.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.harness.execution.execute import has_valid_result
from experiments.harness.executors.job_spec import ExecutorConfig, JobSpec, default_jobs
from experiments.harness.executors.worker import (
    ProgressFile,
    execute_in_turn,
    progress_path,
    python_path,
    set_one_thread,
    steps_done,
)
from experiments.harness.run import Run, run_id
from synth.errors import UserError

DEFAULT_MINUTES = 240  # time limit of a job
MAX_REQUEUES = 1000
RESULT_TIMEOUT = 60.0  # seconds until a shared file system shows a result of another machine
DEFAULT_JOBS = 16


def execute_all(spec: JobSpec, runs: list[Run], config: ExecutorConfig, bar: Any) -> Iterator[Run]:
    """Yield each run when it is done. jobs: size of the array, by default 16, or on this machine one per core."""
    spec = replace(spec, runs_dir=spec.runs_dir.resolve())  # jobs may have another working directory
    local = config.address == "local"
    num_jobs = config.jobs or (default_jobs() if local else DEFAULT_JOBS)
    work = ArrayJob(spec, [run_id(run) for run in runs])
    jobs = _submit(spec.runs_dir, config, [work] * min(num_jobs, len(runs)))
    try:
        yield from _poll_results(jobs, spec.runs_dir, runs, bar, 0.0 if local else RESULT_TIMEOUT)
    except BaseException:
        for job in jobs:
            _cancel(job, config)
        for job in jobs:
            _wait_for(job)
        raise


@dataclass(frozen=True)
class ArrayJob:
    """Work of every job: the runs that no other job is busy with, then those that others left undone."""

    spec: JobSpec
    identities: list[str]

    def __call__(self) -> str:
        """Execute the runs; return the error message if a run fails, otherwise ""."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # scancel, which submitit would wait out
        set_one_thread()
        runs = map(self.spec.run_by_id, self.identities)
        try:
            for _ in execute_in_turn(self.spec, runs, lambda run: ProgressFile(self.spec.runs_dir, run)):
                pass
        except (UserError, OSError) as error:
            return str(error)
        except KeyboardInterrupt:
            pass  # the training is saved
        return ""

    def checkpoint(self) -> Any:
        """Called by submitit before the time limit, after the training is saved: submit the same job again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def check(config: ExecutorConfig) -> None:
    """Raise UserError if jobs cannot be submitted from this machine, or for bad options."""
    if find_spec("submitit") is None:
        raise UserError("--executor slurm needs submitit; install it with: pip install 'physics-of-lms[cluster]'")
    if config.address not in ("", "local"):
        mend = "leave it out, or give local for jobs on this machine"
        raise UserError(f"--address {config.address} is none for Slurm; {mend}")
    if config.address != "local" and shutil.which("sbatch") is None:
        mend = "run it on a login node of the cluster, or add --address local for jobs on this machine"
        raise UserError(f"there is no sbatch here; {mend}")
    _sbatch_options(config)
    _num_gpus(config)


def _submit(root: Path, config: ExecutorConfig, work: Sequence[ArrayJob]) -> list[Any]:
    import submitit

    folder = root / ".slurm"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    os.environ["PYTHONPATH"] = python_path()  # jobs inherit it
    options = _sbatch_options(config)
    local = config.address == "local"
    executor = submitit.AutoExecutor(folder, cluster="local" if local else "slurm", slurm_max_num_timeout=MAX_REQUEUES)
    minutes = int(options.pop("minutes", DEFAULT_MINUTES))
    executor.update_parameters(timeout_min=minutes, gpus_per_node=_num_gpus(config), name="physics")
    if not local:
        executor.update_parameters(cpus_per_task=1, slurm_additional_parameters=options)
    try:
        with executor.batch():
            return [executor.submit(each) for each in work]
    except submitit.core.utils.FailedJobError as error:
        lines = str(error).strip().splitlines()
        raise UserError(f"sbatch refuses the jobs ({lines[-1] if lines else error}); mend --slurm") from None


def _sbatch_options(config: ExecutorConfig) -> dict[str, str]:
    """Values of sbatch's options, and `minutes`. Raises UserError for an option without a value."""
    options = {}
    for option in config.sbatch_options:
        key, _, value = option.partition("=")
        if not (key and value) or (key == "minutes" and not value.isdecimal()):
            raise UserError(f"--slurm {option!r} is no option; write KEY=VALUE, such as partition=gpu or minutes=240")
        options[key.replace("-", "_")] = value
    return options


def _num_gpus(config: ExecutorConfig) -> int:
    gpus = config.gpus_per_run or 0
    if gpus != int(gpus):
        raise UserError(f"--gpus {gpus:g}: Slurm gives whole cards; use --executor ray within a job to share one")
    return int(gpus)


def _poll_results(jobs: list[Any], root: Path, runs: list[Run], bar: Any, timeout: float) -> Iterator[Run]:
    """Yield runs as their results appear. Raises UserError if a job reports an error, or if all end with runs undone.

    timeout: seconds for the last results to appear on this machine after all jobs have ended.
    """
    todo, all_ended_at = list(runs), 0.0
    begun = bar.n
    while todo:
        outcomes = [_job_outcome(job) for job in jobs if job.done()]  # first, as a job's results precede its end
        for run in [run for run in todo if has_valid_result(run, root)]:
            todo.remove(run)
            progress_path(root, run).unlink(missing_ok=True)
            yield run
        bar.update(begun + steps_done(root, runs) - bar.n)
        if errors := [message for message, lost in outcomes if message and not lost]:
            raise UserError(errors[0])
        if todo and len(outcomes) == len(jobs):
            all_ended_at = all_ended_at or time.monotonic()
            if time.monotonic() >= all_ended_at + timeout:
                losses = [message for message, _ in outcomes if message]
                problem = f"{len(todo)} runs are not done, and all jobs have ended"
                raise UserError(f"{': '.join([problem, *losses[:1]])}; run the same command to go on")
        time.sleep(0.5 if todo else 0)


def _job_outcome(job: Any) -> tuple[str, bool]:
    """Error message of a job that has ended ("" for none), and whether the job was lost: other jobs do its runs."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result(), False
    except (FailedJobError, UncompletedJobError):
        log = (job.stderr() or "").strip().splitlines() or ["no word in its log"]
        return f"a job failed ({log[-1]}; {job.paths.stderr})", True


def _cancel(job: Any, config: ExecutorConfig) -> None:
    """Send a job SIGTERM, so that it saves its training and ends."""
    if config.address != "local":
        job.cancel(check=False)
    elif not job.done():  # submitit's own cancel prints a traceback and kills after a second
        os.kill(int(job.job_id), signal.SIGTERM)


def _wait_for(job: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not job.done() and time.monotonic() < end:
        time.sleep(0.1)
