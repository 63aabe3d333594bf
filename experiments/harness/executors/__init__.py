"""Executors of the runs of an experiment: in processes of this machine, on a Ray cluster, or by Slurm.

An executor is a module with `execute_all(spec, runs, config, bar)`, which yields each run when it is done. All call the
same `execute(run)`, so that on CPU, with one thread per run, all give bit-identical results.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any

from experiments.harness.execution.distributed import is_leading, is_multi_rank
from experiments.harness.execution.execute import has_result, has_valid_result, rows_reader
from experiments.harness.execution.tuning import close_trials, first_trials
from experiments.harness.executors import inline
from experiments.harness.executors.inline import kept_workers
from experiments.harness.executors.job_spec import ExecutorConfig, JobSpec, RunSource, StaticRuns
from experiments.harness.executors.scheduling import schedule
from experiments.harness.run import Run, seed_major_order
from synth.errors import UserError

__all__ = [
    "EXECUTORS",
    "ExecutorConfig",
    "JobSpec",
    "RunSource",
    "StaticRuns",
    "check_executor",
    "kept_workers",
    "prepare_executor",
    "run_all",
]
EXECUTORS = ("inline", "ray", "slurm")


def check_executor(config: ExecutorConfig) -> None:
    """Raise UserError if the executor cannot be used on this machine."""
    module = import_module(f"{__name__}.{config.executor}")
    if hasattr(module, "check"):
        module.check(config)


def prepare_executor(config: ExecutorConfig) -> None:
    """Begin to start what the inline executor will need, so that it is ready when the runs are listed."""
    if config.executor == "inline" and not is_multi_rank():
        inline.prepare(config)


def run_all(
    spec: JobSpec, runs: Sequence[Run], config: ExecutorConfig, on_run_done: Callable[[Run], None], bar: Any = None
) -> None:
    """Execute the runs that have no valid result yet, the trials of their grids first; `on_run_done` is called after
    each.

    bar: a tqdm-like progress bar at 0 that counts optimizer steps; by default a new one.
    Raises UserError or OSError of the first run that fails; finished runs keep their results.
    """
    todo, trials = _pending(spec, runs), _pending(spec, first_trials(runs))
    if not todo and not trials:
        return
    config = leader_config(config) if is_multi_rank() else config
    executor = import_module(f"{__name__}.{config.executor}")
    count = f"{len(runs) - len(todo)} of {len(runs)} runs"
    with kept_workers(), _progress_bar([*trials, *todo], count) if bar is None else nullcontext(bar) as bar:

        def execute_wave(wave: list[Run]) -> None:
            for run in executor.execute_all(spec, wave, config, bar) if wave else ():
                count = sum(has_result(each, spec.runs_dir) for each in runs)
                bar.set_postfix_str(f"{count} of {len(runs)} runs", refresh=sys.stderr.isatty())
                on_run_done(run)

        execute_wave(trials)
        close = _pending(spec, close_trials(runs, rows_reader(spec.runs_dir)))
        if close:
            bar.total += sum(run.steps for run in close)
            execute_wave(close)
        execute_wave(todo)


def _pending(spec: JobSpec, runs: Sequence[Run]) -> list[Run]:
    """The runs without a valid result, each once, in the order in which they are executed."""
    return [run for run in schedule(seed_major_order(runs)) if not has_valid_result(run, spec.runs_dir)]


def leader_config(config: ExecutorConfig) -> ExecutorConfig:
    """The configuration for the leader of several ranks: one job.

    Raises UserError for another executor or several jobs, and for a command that cannot run on several ranks.
    """
    if config.executor != "inline" or (config.jobs or 1) > 1:
        raise UserError("several ranks work on one run at a time; leave out --jobs and --executor, or the launcher")
    if not is_leading():
        raise UserError("this command is for a single process; start it without accelerate launch or torchrun")
    return replace(config, jobs=1)


def _progress_bar(todo: list[Run], count: str) -> Any:
    from tqdm import tqdm

    steps = sum(run.steps for run in todo)
    interval = 0.2 if sys.stderr.isatty() else 60.0  # a log file needs no moving bar
    return tqdm(total=steps, unit="step", mininterval=interval, maxinterval=interval, postfix=count, smoothing=0.05)
