"""The Slurm executor: a job array whose jobs share the runs of an experiment, by submitit.

Every job goes through all groups in the same order and does what no other is at: jobs that start late find the rest,
and what a lost job was at is done by another. Before its time limit a job saves what it trains and is queued again.
submitit hands jobs over in pickles: they lie in runs/.slurm, which only their owner may enter.
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

from experiments.harness.execution.execute import execute, readable
from experiments.harness.execution.grouping import in_groups
from experiments.harness.executors.job_spec import Plan, Where, default_jobs
from experiments.harness.executors.worker import Beat, beat_of, python_path, steps_done, use_one_thread
from experiments.harness.executors.worker import carry_out as work_on
from experiments.harness.run import Run, run_id
from synth.errors import UserError

MINUTES = 240  # a job's time limit, unless --slurm minutes=N says otherwise
REQUEUES = 1000
PATIENCE = 60.0  # seconds: file systems that machines share may show a result that late
JOBS = 16  # at most, unless --jobs says otherwise


def carry_out(plan: Plan, waiting: list[Run], where: Where, bar: Any) -> Iterator[Run]:
    """Yield each run as it is done. jobs: jobs of the array, by default at most 16; on this machine one per core."""
    plan = replace(plan, root=plan.root.resolve())  # jobs may stand in another folder
    most = default_jobs() if where.address == "local" else JOBS
    groups = in_groups(waiting, plan.root, where.jobs or most)
    shares = [Share(plan, [[run_id(run) for run in group] for group in groups])] * min(where.jobs or most, len(groups))
    jobs = _submit(plan.root, where, shares)
    try:
        yield from _watch(jobs, plan.root, waiting, bar, 0.0 if where.address == "local" else PATIENCE)
    except BaseException:
        for job in jobs:
            _cancel(job, where)
        for job in jobs:
            _wait_for(job)
        raise


@dataclass(frozen=True)
class Share:
    """What a job does: every run that no other is at, then those that others have left undone."""

    plan: Plan
    groups: list[list[str]]

    def __call__(self) -> str:
        """The line to tell the user when a run fails, else nothing."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # scancel, which submitit would wait out
        use_one_thread()
        root, busy = self.plan.root, []
        try:
            for group in map(self.plan.named, self.groups):
                for run, done in work_on(group, root, False, lambda run: Beat(root, run), self.plan.track):
                    busy += [] if done else [run]
            for run in busy:
                execute(run, root, progress=Beat(root, run), track=self.plan.track)
        except (UserError, OSError) as error:
            return str(error)
        except KeyboardInterrupt:
            pass  # what was trained is saved, and who stopped it knows
        return ""

    def checkpoint(self) -> Any:
        """Called by submitit before the time limit, once a training under way is saved: the same again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def check(where: Where) -> None:
    """Raise UserError where jobs cannot be submitted."""
    if find_spec("submitit") is None:
        raise UserError("--executor slurm needs submitit; install it with: pip install 'physics-of-lms[cluster]'")
    if where.address not in ("", "local"):
        raise UserError(
            f"--address {where.address} is none for Slurm; leave it out, or give local for jobs on this machine"
        )
    if where.address != "local" and shutil.which("sbatch") is None:
        mend = "run it on a login node of the cluster, or add --address local for jobs on this machine"
        raise UserError(f"there is no sbatch here; {mend}")
    _options(where)
    _gpus(where)


def _submit(root: Path, where: Where, shares: Sequence[Share]) -> list[Any]:
    import submitit

    folder = root / ".slurm"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    # jobs take their environment from here
    os.environ["PYTHONPATH"] = python_path()
    options = _options(where)
    local = where.address == "local"
    executor = submitit.AutoExecutor(folder, cluster="local" if local else "slurm", slurm_max_num_timeout=REQUEUES)
    minutes = int(options.pop("minutes", MINUTES))
    executor.update_parameters(timeout_min=minutes, gpus_per_node=_gpus(where), name="physics")
    if not local:
        executor.update_parameters(cpus_per_task=1, slurm_additional_parameters=options)
    try:
        with executor.batch():
            return [executor.submit(share) for share in shares]
    except submitit.core.utils.FailedJobError as error:
        said = str(error).strip().splitlines()
        raise UserError(f"sbatch refuses the jobs ({said[-1] if said else error}); mend --slurm") from None


def _options(where: Where) -> dict[str, str]:
    """sbatch's options. Raises UserError for one without a value."""
    pairs = [option.partition("=") for option in where.slurm]
    for (key, sign, value), given in zip(pairs, where.slurm, strict=True):
        if not (key and sign and value) or (key == "minutes" and not value.isdecimal()):
            raise UserError(f"--slurm {given!r} is no option; write KEY=VALUE, such as partition=gpu or minutes=240")
    return {key.replace("-", "_"): value for key, _, value in pairs}


def _gpus(where: Where) -> int:
    if where.gpus is not None and where.gpus != int(where.gpus):
        raise UserError(f"--gpus {where.gpus:g}: Slurm gives whole cards; use --executor ray within a job to share one")
    return int(where.gpus or 0)


def _watch(jobs: list[Any], root: Path, waiting: list[Run], bar: Any, patience: float) -> Iterator[Run]:
    """The runs as their results appear. Raises UserError when a job says why it failed, or all end too early.

    patience: seconds for a result to show on this machine after the job that made it has ended.
    """
    left, over, done = list(waiting), 0.0, 0
    while left:
        ended = [_said(job) for job in jobs if job.done()]  # before the results: the last come before the last job ends
        for run in [run for run in left if readable(run, root)]:
            left.remove(run)
            done += run.steps
            beat_of(root, run).unlink(missing_ok=True)
            yield run
        bar.update(done + steps_done(root, left) - bar.n)
        if problems := [said for said, lost in ended if said and not lost]:
            raise UserError(problems[0])
        if left and len(ended) == len(jobs):
            over = over or time.monotonic()
            if time.monotonic() >= over + patience:
                lost = [said for said, _ in ended if said]  # others do what a lost job was at, while there are any
                why = f"{len(left)} runs are not done, and all jobs have ended"
                raise UserError(f"{': '.join([why, *lost[:1]])}; run the same command to go on")
        time.sleep(0.5 if left else 0)


def _said(job: Any) -> tuple[str, bool]:
    """What is to be told of a job that has ended, and whether that is because it was lost."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result(), False
    except (FailedJobError, UncompletedJobError):
        log = (job.stderr() or "").strip().splitlines() or ["no word in its log"]
        return f"a job failed ({log[-1]}; {job.paths.stderr})", True


def _cancel(job: Any, where: Where) -> None:
    """Have a job save what it trains and end; it gets SIGTERM."""
    if where.address != "local":
        job.cancel(check=False)
    elif not job.done():  # what submitit does prints a traceback and kills after a second
        os.kill(int(job.job_id), signal.SIGTERM)


def _wait_for(job: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not job.done() and time.monotonic() < end:
        time.sleep(0.1)
