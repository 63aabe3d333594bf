"""The command lines: one experiment (`python experiments/NN_name.py`) and all of them (`python -m experiments`).

Bad input ends with one line on standard error and status 2. Heavy libraries are imported only when needed.
"""

import errno
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro

from experiments.harness.calibration.calibrate import Calibrate
from experiments.harness.execution.distributed import leader_only
from experiments.harness.execution.trainings import join_training
from experiments.harness.executors import (
    EXECUTORS,
    ExecutorConfig,
    JobSpec,
    check_executor,
    kept_workers,
    prepare_executor,
    run_all,
)
from experiments.harness.executors.job_spec import default_jobs
from experiments.harness.experiment import EXPERIMENTS_DIR, TABLE_NAME, Experiment, select
from experiments.harness.reporting.outputs import GRID_TABLE_NAME, draw_figure, draw_grid
from experiments.harness.run import SCALES, Run
from experiments.harness.statistics.power import Power
from experiments.harness.statistics.sequential import AUTO
from synth.commands.command_line import check_positive, choose_command, guarded, no_such_name, parse
from synth.errors import UserError

UNUSABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT)
ABOUT = "List, run, plot and price the experiments, and try an architecture of your own beside the papers'."
if TYPE_CHECKING:
    Scale = Executor = str
    Seeds = int | str | None
else:
    Seeds = int | Literal["auto"] | None
    Scale, Executor = Literal[SCALES], Literal[EXECUTORS]
Selection = tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NN ...]")]]


# ---- options -------------------------------------------------------------------------------------------------------
@dataclass(kw_only=True)
class Folders:
    """Folders of results and runs."""

    results_dir: Path = EXPERIMENTS_DIR.parent / "results"
    """folder of tables and figures"""
    runs_dir: Path = EXPERIMENTS_DIR.parent / "runs"
    """folder of finished and unfinished runs"""


@dataclass(kw_only=True)
class RunOptions(Folders):
    """Options of running an experiment."""

    scale: Scale = "laptop"
    """how large to run"""
    dry_run: bool = False
    """print the cost and stop"""
    time_steps: bool = False
    """with --dry-run: time a few training steps"""
    plot_only: bool = False
    """draw the figure from the table of this scale"""
    seeds: Seeds = None
    """seeds per configuration; if not given, the scale's own; auto: 3, and up to 12 while claims are undecided"""
    jobs: int | None = None
    """processes at a time; if not given, one per core; one with a GPU"""
    executor: Executor = "inline"
    """what executes the runs"""
    address: str = ""
    """address of a running Ray cluster (auto, HOST:PORT); local: run Slurm's jobs on this machine"""
    gpus: float | None = None
    """GPUs per run on a cluster; a fraction, such as 0.25, lets runs share one"""
    slurm: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE: an option of sbatch, or minutes=N, a job's time limit; may be repeated"""
    tracker: str = ""
    """log trainings to tensorboard, wandb or trackio"""


def _check_run_options(options: RunOptions) -> None:
    """Raise UserError for numbers out of range."""
    check_positive(options, *(("jobs",) if options.seeds == "auto" else ("seeds", "jobs")))
    if (gpus := options.gpus) is not None and not (0 <= gpus <= 1 or (1 < gpus < 1000 and gpus == int(gpus))):
        raise UserError(f"--gpus {gpus:g} is neither a part of a GPU, such as 0.25, nor a number of them")


# ---- one experiment ------------------------------------------------------------------------------------------------
def main(file: str, argv: Sequence[str] | None = None) -> None:
    """The command line of one experiment; call it as main(__file__)."""
    experiment = Experiment(Path(file).resolve())
    prog, root = f"python experiments/{experiment.path.name}", experiment.path.parents[1]
    _exit_on_error(
        lambda: _parse(RunOptions, prog, argv, root, description=experiment.title),
        lambda options: run_experiment(experiment, options),
    )


def _executor_config(options: RunOptions) -> ExecutorConfig:
    return ExecutorConfig(options.executor, options.jobs, options.address, options.gpus, options.slurm)


def run_experiment(experiment: Experiment, options: RunOptions) -> None:
    """Run (or dry-run, or plot) one experiment at one scale. Raises UserError if it has no runs there."""
    _check_run_options(options)
    seeds = AUTO.looks[-1] if isinstance(options.seeds, str) else options.seeds
    spec = JobSpec(experiment, options.scale, seeds, options.runs_dir, options.tracker)
    list_runs = partial(experiment.runs, options.scale, seeds)
    with leader_only(list_runs, partial(join_training, runs_dir=options.runs_dir)) as leading:
        if leading:
            _run_as_leader(spec, experiment, options)


def _run_as_leader(spec: JobSpec, experiment: Experiment, options: RunOptions) -> None:
    folder = options.results_dir / experiment.name / options.scale
    if options.plot_only:
        return _draw_committed(experiment, options.scale, options.results_dir, folder)
    config, until_decided = _executor_config(options), options.seeds == "auto"
    if not options.dry_run:
        prepare_executor(config)
    runs = experiment.runs(options.scale, AUTO.looks[0] if until_decided else spec.seeds)
    if not runs:
        raise UserError(f"{experiment.name} has no runs at scale {options.scale}")
    if options.dry_run:
        _print_cost(experiment, options.scale, runs, options)
        return print(f"up to {AUTO.looks[-1]} seeds of what is undecided") if until_decided else None
    if options.tracker:
        from lm.training.trackers import check_tracker

        check_tracker(options.tracker)
    check_executor(config)
    folder.mkdir(parents=True, exist_ok=True)  # fails before anything is trained if it cannot be made
    _execute(spec, experiment, runs, config, options.results_dir, until_decided)


def _execute(
    spec: JobSpec, experiment: Experiment, runs: Sequence[Run], config: ExecutorConfig, results: Path, auto: bool
) -> None:
    from experiments.harness.reporting.live import LiveReport

    if auto:
        from experiments.harness.until_decided import run_until_decided

        report = LiveReport(experiment, spec.scale, runs, spec.runs_dir, results, AUTO.text)
        run_until_decided(experiment, spec, config, report, AUTO)
    else:
        report = LiveReport(experiment, spec.scale, runs, spec.runs_dir, results)
        run_all(spec, runs, config, report.on_run_done)
    report.finish()


def _draw_committed(experiment: Experiment, scale: str, results: Path, folder: Path) -> None:
    source = results / experiment.name / scale
    grid = draw_grid(source, folder) if (source / GRID_TABLE_NAME).is_file() else []
    for path in [*draw_figure(experiment, source / TABLE_NAME, folder), *grid]:
        print(path)


def _print_cost(experiment: Experiment, scale: str, runs: Sequence[Run], options: RunOptions) -> None:
    from experiments.harness.planning.cost import estimate_costs
    from experiments.harness.planning.report import cost_table

    estimates = estimate_costs(runs, options.runs_dir, options.time_steps)
    print(cost_table(experiment.name, scale, estimates, options.jobs or default_jobs()))


# ---- all experiments -----------------------------------------------------------------------------------------------
@dataclass(kw_only=True)
class List(Folders):
    """List the experiments and the scales that have results."""

    experiments: Selection = ()
    """numbers or names; if not given, all"""

    def run(self, folder: Path) -> None:
        for experiment in select(self.experiments, folder):
            scales = ", ".join(experiment.scales_with_tables(self.results_dir)) or "no results"
            print(f"{experiment.name:28} {scales:24} {experiment.title}")


@dataclass(kw_only=True)
class RunMany(RunOptions):
    """Run experiments."""

    experiments: Selection = ()
    """numbers or names; if not given, all"""

    def run(self, folder: Path) -> None:
        chosen = select(self.experiments, folder)
        with kept_workers():
            for experiment in chosen:
                if len(chosen) > 1 and not self.plot_only and not experiment.runs(self.scale):
                    print(f"{experiment.name}: nothing to run at scale {self.scale}")
                    continue
                run_experiment(experiment, self)


@dataclass(kw_only=True)
class Plot(Folders):
    """Draw every figure again from its committed table."""

    experiments: Selection = ()
    """numbers or names; if not given, all"""
    output_dir: Path | None = None
    """another folder for the figures; if not given, beside the tables"""

    def run(self, folder: Path) -> None:
        for experiment in select(self.experiments, folder):
            for scale in experiment.scales_with_tables(self.results_dir):
                target = (self.output_dir or self.results_dir) / experiment.name / scale
                _draw_committed(experiment, scale, self.results_dir, target)


@dataclass(kw_only=True)
class Claims(Folders):
    """Print the verdict on every claim, or all lines of some experiments."""

    experiments: Selection = ()
    """numbers or names: print all their lines; if not given, one row a claim"""
    json: bool = False
    """print one JSON object a line"""
    write: bool = False
    """write the ledger to results/README.md"""
    check: bool = False
    """fail unless results/README.md is up to date"""

    def run(self, folder: Path) -> None:
        from experiments.harness.atomic_io import write_text
        from experiments.harness.reporting import ledger

        path = self.results_dir / "README.md"
        chosen = [experiment.number for experiment in select(self.experiments, folder)] if self.experiments else []
        if self.write:
            write_text(path, ledger.to_markdown(self.results_dir, folder))
            print(path)
        elif self.check:
            if not path.is_file() or path.read_bytes() != ledger.to_markdown(self.results_dir, folder).encode():
                raise UserError(f"{path} is not up to date; run `python -m experiments claims --write`")
        elif self.json:
            print("\n".join(ledger.to_json_lines(self.results_dir, folder, chosen)))
        else:
            print(ledger.to_text(self.results_dir, folder, chosen))


@dataclass(kw_only=True)
class Cost(Folders):
    """Print what runs cost, at every scale."""

    experiments: Selection = ()
    """numbers or names; if not given, all"""
    scale: Scale | None = None
    """one scale only"""
    seeds: int | None = None
    """seeds per configuration; if not given, the scale's own"""
    time_steps: bool = False
    """time a few training steps of each configuration"""
    gpu: Literal["h100", "a100"] = "h100"
    """GPU whose hours are estimated"""

    def run(self, folder: Path) -> None:
        from experiments.harness.planning.gpu_hours import GPUS
        from experiments.harness.planning.report import print_cost_report

        check_positive(self, "seeds")
        chosen, scales = select(self.experiments, folder), [self.scale] if self.scale else SCALES
        gpu, jobs = GPUS[self.gpu], default_jobs()
        print_cost_report(chosen, scales, self.runs_dir, self.results_dir, gpu, jobs, self.seeds, self.time_steps)


@dataclass(kw_only=True)
class Playground(RunOptions):
    """Try an architecture of your own beside the papers', on every task."""

    arch: str = tyro.MISSING
    """your token mixer (lm.mixers.base.Mixer), as FILE.py:CLASS"""
    tasks: str = ""
    """comma-separated: depo,brevo,mano,capacity,cfg; if not given, all"""

    def run(self, folder: Path) -> None:
        from experiments.harness.playground.experiment import build_playground, check_architecture

        _check_run_options(self)
        if isinstance(self.seeds, str):
            raise UserError("--seeds auto looks at claims, of which the playground makes none; give a number")
        comparison = build_playground(self.arch, [task for task in self.tasks.split(",") if task], self.seeds)
        if not self.plot_only:
            check_architecture(comparison, self.scale)
        run_experiment(comparison, self)


COMMANDS: dict[str, type[Any]] = {
    "list": List, "run": RunMany, "plot": Plot, "claims": Claims, "cost": Cost, "calibrate": Calibrate,
    "playground": Playground, "power": Power,
}  # fmt: skip


def main_all(argv: Sequence[str] | None = None, folder: Path = EXPERIMENTS_DIR) -> None:
    """The command line over all experiments."""
    prog = "python -m experiments"

    def command() -> Any:
        name, rest = choose_command(prog, ABOUT, COMMANDS, argv)
        return _parse(COMMANDS[name], f"{prog} {name}", rest, folder.parent)

    _exit_on_error(command, lambda options: options.run(folder))


# ---- parsing and errors --------------------------------------------------------------------------------------------
def _parse(kind: type[Any], prog: str, argv: Sequence[str] | None, root: Path, **settings: Any) -> Any:
    """Parse the options of a command; results and runs are under `root` by default."""
    names = {f.name for f in fields(kind)}
    folders = {name: root / name.removesuffix("_dir") for name in ("results_dir", "runs_dir") if name in names}
    return parse(kind, prog, argv, default=kind(**folders), config=(tyro.conf.FlagCreatePairsOff,), **settings)


def _exit_on_error(command: Callable[[], Any], work: Callable[[Any], None]) -> None:
    """Run `work` with the options from `command`; an error that a user can mend ends the process with one line."""
    from experiments.harness.atomic_io import is_disk_full

    options: Any = None

    def run() -> None:
        nonlocal options
        options = command()
        work(options)

    def explain(error: OSError) -> str:
        if misplaced := _explain_unusable_path(error, options):
            return misplaced
        if options is not None and is_disk_full(error, options.runs_dir):
            place = error.filename or options.runs_dir
            return f"the disk of {place} is full; free some space and run the same command again"
        return str(no_such_name(error))

    terminated = _sigterm_as_interrupt()
    status = guarded(run, "run the same command to go on", explain)
    if status:
        raise SystemExit(128 + signal.SIGTERM if terminated and status == 128 + signal.SIGINT else status)


def _sigterm_as_interrupt() -> list[int]:
    """Treat SIGTERM, which Slurm sends before a time limit, as Ctrl-C; the returned list is filled when it comes."""
    received: list[int] = []

    def leave(number: int, frame: Any) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)
    return received


def _explain_unusable_path(error: OSError, options: Any) -> str | None:
    """Message about a folder of the options that cannot be used; None if the error is about something else."""
    if error.errno not in UNUSABLE or error.filename is None:
        return None
    path = Path(os.path.abspath(os.fsdecode(error.filename)))
    for name in ("output", "output_dir", "results_dir", "runs_dir"):
        option = getattr(options, name, None)
        folder = Path(os.path.abspath(option)) if option else None
        if folder and (path.is_relative_to(folder) or folder.is_relative_to(path)):
            flag = f"--{name.replace('_', '-')}"
            return f"{path}: {error.strerror}; mend this or give {flag} a folder that you may write to"
    return None
