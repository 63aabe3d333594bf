"""`python -m experiments calibrate`: at which sizes of a task does a model of this budget neither fail nor succeed?

Where the reference is at floor or at ceiling, two architectures cannot be told apart. docs/calibrate.md shows a search.
"""

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from experiments.harness.calibration.config_text import parse_assignments, parse_value, parse_values
from experiments.harness.calibration.report import Finding, TableWriter, finding, format_size, recommendation, write_csv
from experiments.harness.calibration.search import Search, SizeRanks
from experiments.harness.calibration.trials import (
    CALIBRATION_SEED,
    REFERENCE,
    SCALE_DEFAULTS,
    TrialFactory,
    parse_architectures,
)
from experiments.harness.evaluation.task_metrics import METRICS, TaskMetric, metric_for
from experiments.harness.execution.execute import has_result, read_rows
from experiments.harness.executors import ExecutorConfig, JobSpec, StaticRuns, run_all
from lm.config import ModelConfig, TrainConfig
from synth.commands.command_line import check_positive
from synth.errors import UserError
from synth.registry import get_task, task_class
from synth.task import Task

if TYPE_CHECKING:
    Scale = Metric = str
else:
    Scale, Metric = Literal[tuple(SCALE_DEFAULTS)], Literal[METRICS]
MAX_SIZES = 1000


@dataclass(frozen=True)
class SizeGrid:
    """The sizes of a task: names of the fields that vary, their values from easy to hard, whether a field's values are
    ordered (numbers are), and the task at every size that exists."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    ordered: tuple[bool, ...]
    tasks: dict[SizeRanks, Task]

    def fields_at(self, size: SizeRanks) -> dict[str, Any]:
        """The fields and values of a size."""
        return {name: values[rank] for name, values, rank in zip(self.names, self.values, size, strict=True)}


def parse_grid(spec: str, grid: Sequence[str], fixed: Sequence[str]) -> SizeGrid:
    """The grid of a command line. Raises UserError for unknown fields, and if the task refuses every size."""
    cls, preset = task_class(spec)
    given = parse_values(cls, parse_assignments(fixed, "--set"), "--set")
    texts = {name: text.split(",") for name, text in parse_assignments(grid, "--grid").items()}
    if twice := given.keys() & texts.keys():
        raise UserError(f"{min(twice)} is both in --set and in --grid; leave it out of one")
    parsed = ([parse_value(cls, name, text, "--grid") for text in many] for name, many in texts.items())
    values = tuple(tuple(dict.fromkeys(many)) for many in parsed)
    if (n := math.prod(map(len, values))) > MAX_SIZES:
        raise UserError(f"--grid has {n} sizes, more than a search can try; give at most {MAX_SIZES}")
    ordered = tuple(all(type(each) in (int, float) for each in many) for many in values)
    tasks, refused = dict[SizeRanks, Task](), ""
    for size in itertools.product(*(range(len(many)) for many in values)):
        chosen = {name: many[rank] for name, many, rank in zip(texts, values, size, strict=True)}
        try:
            tasks[size] = get_task(spec, **given, **chosen)
        except UserError as error:  # not every value of one field goes with every value of another
            refused = str(error)
    if not tasks:
        raise UserError(refused)
    return SizeGrid(tuple(texts), values, ordered, tasks)


@dataclass(kw_only=True)
class Calibrate:
    """Find the sizes of a task at which a model is neither at floor nor at ceiling (docs/calibrate.md)."""

    task: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TASK")]] = tyro.MISSING
    """name, preset or path/to/file.py:Class"""
    scale: Scale = "laptop"
    """reference model and budget"""
    grid: tuple[str, ...] = ()
    """FIELD=A,B ...: sizes of the task, the easiest first"""
    set: tuple[str, ...] = ()
    """FIELD=A ...: other fields of the task"""
    model: tuple[str, ...] = ()
    """FIELD=A ...: fields of the reference's ModelConfig"""
    train: tuple[str, ...] = ()
    """FIELD=A ...: fields of the TrainConfig"""
    lr: str | None = None
    """learning rates to try at every size, as in 1e-3,2e-3; if not given, the scale's own"""
    seconds: float | None = None
    """budget of one training, in seconds of one core or of the GPU; if not given, the scale's own"""
    arch: tuple[str, ...] = ()
    """NAME=SWITCHES ...: models to compare, as in nope=positions:none"""
    metric: Metric | None = None
    """how answers are judged; if not given, by what the task has"""
    num_examples: int = 200
    """test documents of one evaluation"""
    jobs: int | None = None
    """processes at a time; if not given, one per core; one with a GPU"""
    output: Path | None = None
    """a CSV file for the table"""
    runs_dir: Path = Path("runs")
    """folder of runs"""

    def run(self, folder: Path) -> None:
        check_positive(self, "seconds", "num_examples", "jobs")
        calibrate(self)


def _learning_rates(text: str) -> tuple[float, ...]:
    """The numbers of a comma-separated list. Raises UserError for one that is not above 0."""
    rates = list[float]()
    for piece in text.split(","):
        with suppress(ValueError):
            rates.append(float(piece))
        if not rates or not 0 < rates[-1] < float("inf"):
            raise UserError(f"--lr: {piece!r} is not a number above 0")
    return tuple(dict.fromkeys(rates))


def make_trial_factory(options: Calibrate) -> TrialFactory:
    """The models and trainings of a command line. Raises UserError for unknown fields."""
    train = parse_values(TrainConfig, parse_assignments(options.train, "--train"), "--train")
    for name, instead in (("steps", "--seconds"), ("lr", "--lr")):
        if name in train:
            raise UserError(f"--train {name} is not yours to set; give {instead}")
    defaults, architectures = SCALE_DEFAULTS[options.scale], parse_architectures(ModelConfig, options.arch)
    model = parse_values(ModelConfig, parse_assignments(options.model, "--model"), "--model")
    rates = _learning_rates(options.lr) if options.lr is not None else defaults.learning_rates
    seconds = options.seconds or defaults.seconds
    return TrialFactory(defaults, model, train, architectures, rates, seconds, options.runs_dir)


def calibrate(options: Calibrate) -> None:
    """Search, print the table as it grows, and recommend a size. Raises UserError for bad input."""
    grid, factory = parse_grid(options.task, options.grid, options.set), make_trial_factory(options)
    metrics = _metrics_by_size(grid, factory, options)
    search = Search(list(grid.tasks), grid.ordered)
    findings: list[Finding] = []
    with SearchBar() as bar:
        sizes, models = [grid.fields_at(size) for size in grid.tasks], (REFERENCE, *factory.architectures)
        printer = TableWriter(sizes, models, bar.write)
        while (size := search.suggest()) is not None:
            size_findings = _run_trials(grid, factory, size, metrics[size], options, bar, len(search.remaining()))
            findings += size_findings
            search.record(size, printer.write_findings(size_findings))
            if options.output:
                write_csv(options.output, findings)
    verdicts = [(grid.fields_at(size), search.verdicts[size]) for size in grid.tasks]
    print(recommendation(findings, verdicts))


def _metrics_by_size(grid: SizeGrid, factory: TrialFactory, options: Calibrate) -> dict[SizeRanks, TaskMetric]:
    """The metric of every size. Raises UserError, or OSError of --output, for what would otherwise show after hours."""
    if options.output and options.output.is_dir():
        raise UserError(f"{options.output} is a folder; give --output the name of a file")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    seq_lens, metrics = dict[SizeRanks, int](), dict[SizeRanks, TaskMetric]()
    for size, task in grid.tasks.items():
        with _name_size_in_errors(grid, size):
            metrics[size] = metric_for(task, CALIBRATION_SEED, options.num_examples, options.metric)
            model, train = factory.configs(task)
            seq_lens[size] = train.seq_len
            for changes in factory.architectures.values():
                replace(model, **changes)
    slowest = max(seq_lens, key=lambda size: seq_lens[size])
    with _name_size_in_errors(grid, slowest):
        factory.steps_in_budget(grid.tasks[slowest])
    return metrics


@contextmanager
def _name_size_in_errors(grid: SizeGrid, size: SizeRanks) -> Iterator[None]:
    """Put the size in front of the message of a UserError."""
    try:
        yield
    except UserError as error:
        name = format_size(grid.fields_at(size))
        raise UserError(f"{name}: {error}" if name else str(error)) from error


def _run_trials(
    grid: SizeGrid,
    factory: TrialFactory,
    size: SizeRanks,
    metric: TaskMetric,
    options: Calibrate,
    bar: "SearchBar",
    left: int,
) -> list[Finding]:
    """Run the trainings of one size, apart from those with a result, and return their findings. left: sizes still to be
    tried."""
    task, fields = grid.tasks[size], grid.fields_at(size)
    with _name_size_in_errors(grid, size):
        trials = factory.trials(task, metric)
    runs = [trial.run for trial in trials]
    num_done = sum(has_result(run, factory.runs_dir) for run in runs)
    bar.set_remaining(factory.budget_seconds * (len(runs) * left - num_done))
    sub_bar = bar.sub_bar(factory.step_seconds(task), format_size(fields))
    spec = JobSpec(StaticRuns(tuple(runs)), options.scale, None, factory.runs_dir)
    run_all(spec, runs, ExecutorConfig(jobs=options.jobs), lambda run: None, sub_bar)
    return [finding(fields, trial, metric, read_rows(trial.run, factory.runs_dir)) for trial in trials]


class SearchBar:
    """One progress bar over the whole search, in core-seconds of training, with an upper bound of the time left."""

    def __enter__(self) -> "SearchBar":
        from tqdm import tqdm

        interval = 0.2 if sys.stderr.isatty() else 60.0
        form = "{percentage:3.0f}%|{bar}| {elapsed}, at most {remaining} left{postfix}"
        self.bar: Any = tqdm(total=0, bar_format=form, mininterval=interval, maxinterval=interval, smoothing=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def set_remaining(self, seconds: float) -> None:
        """Set how much is left; sizes that need not be tried and runs with a result cost nothing."""
        self.bar.total = self.bar.n + seconds

    def sub_bar(self, seconds: float, text: str) -> "SubBar":
        """A bar for trainings whose steps take this many seconds each."""
        return SubBar(self.bar, seconds, text)

    def write(self, line: str) -> None:
        """Print a line on standard output, above a terminal's bar."""
        if sys.stderr.isatty():
            self.bar.write(line, file=sys.stdout)
        else:
            print(line, flush=True)


class SubBar:
    """A bar in training steps that moves the whole bar in seconds."""

    def __init__(self, whole: Any, seconds: float, text: str) -> None:
        self.parent, self.seconds_per_step, self.label, self.n = whole, seconds, text, 0

    def update(self, steps: int) -> None:
        self.n += steps
        self.parent.update(min(steps * self.seconds_per_step, self.parent.total - self.parent.n))

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.parent.set_postfix_str(f"{self.label}: {text}", refresh)
