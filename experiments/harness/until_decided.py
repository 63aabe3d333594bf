"""--seeds auto: three seeds of every configuration, then more of those that undecided claims rest on.

The claims are looked at after 3, 5, 8 and 12 seeds (statistics/sequential.py), until all are decided, or until the next
look would take longer than the scale may.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from experiments.harness.execution.execute import has_result, read_rows
from experiments.harness.executors import ExecutorConfig, JobSpec, run_all
from experiments.harness.executors.job_spec import default_jobs
from experiments.harness.experiment import Experiment
from experiments.harness.reporting.diverged import judge_measured
from experiments.harness.reporting.live import LiveReport
from experiments.harness.reporting.looks import configurations_of, undecided_lines
from experiments.harness.reporting.outputs import make_claims
from experiments.harness.reporting.table import read_table
from experiments.harness.run import Run, configuration_id, run_id
from experiments.harness.statistics.sequential import AUTO, Design

if TYPE_CHECKING:
    from pathlib import Path

# minutes that all runs of an experiment may take together on the machine of the scale; paper has no limit
TIME_LIMITS = {"smoke": 5.0, "laptop": 10.0, "overnight": 180.0, "gpu": 30.0}


def run_until_decided(
    experiment: Experiment, spec: JobSpec, config: ExecutorConfig, report: LiveReport, design: Design = AUTO
) -> None:
    """Execute the first look's seeds of every configuration, then those of each next look that undecided claims rest
    on; `report` gets all runs. Interrupted, the same command goes on."""
    from tqdm import tqdm

    everything = experiment.runs(spec.scale, design.looks[-1])
    runs = [run for run in everything if run.seeds.init < design.looks[0]]
    jobs = config.jobs or default_jobs()
    for number, seeds in enumerate(design.looks, 1):
        report.set_runs(runs)
        run_all(spec, runs, config, report.on_run_done)
        if seeds == design.looks[-1]:
            return
        lines, going_on = _undecided(experiment, spec, runs, report)
        more = design.looks[number]
        known = {run_id(run) for run in runs}
        new = [run for run in everything if run.seeds.init < more and configuration_id(run) in going_on]
        new = [run for run in new if run_id(run) not in known]
        found = f"{seeds} seeds: {_names(lines) or 'nothing'} undecided"
        if not new:
            return tqdm.write(found)
        minutes, limit = _minutes(runs, new, spec.runs_dir, jobs), TIME_LIMITS.get(spec.scale, float("inf"))
        done_before = all(has_result(run, spec.runs_dir) for run in new)  # by a command with more jobs
        if minutes > limit and config.executor == "inline" and not done_before:
            why = f"more than the {limit:.0f} of scale {spec.scale}"
            return tqdm.write(f"{found}; {more} seeds would take the runs to {minutes:.0f} minutes, {why}")
        tqdm.write(f"{found}; {len(going_on)} configurations go on to {more} seeds")
        runs = runs + new


def _undecided(
    experiment: Experiment, spec: JobSpec, runs: Sequence[Run], report: LiveReport
) -> tuple[set[tuple[str, str]], set[str]]:
    """The lines of undecided claims, and the configurations that they rest on."""
    source = report.write_so_far(runs)
    lines = undecided_lines(make_claims(experiment, source, spec.scale))
    table = read_table(source)
    configurations: dict[str, set[str]] = {}
    for run in runs:
        configurations.setdefault(configuration_id(run), set()).add(run_id(run))
    judge = partial(judge_measured, experiment.load_module())
    return lines, configurations_of(lines, table, judge, configurations) if lines else set()


def _minutes(runs: Sequence[Run], new: Sequence[Run], runs_dir: "Path", jobs: int) -> float:
    """Minutes that all these runs take together, from the seconds of those that are done."""
    seconds = {configuration_id(run): read_rows(run, runs_dir)[0]["seconds"] for run in runs}
    return sum(seconds[configuration_id(run)] for run in [*runs, *new]) / jobs / 60


def _names(lines: set[tuple[str, str]]) -> str:
    return ", ".join(sorted({name for name, _ in lines}))
