"""`python -m experiments calibrate`: at which sizes of a task does a model of this budget neither fail nor succeed?

Where the reference is at floor or at ceiling, two architectures cannot be told apart. docs/calibrate.md shows a search.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.harness.calibration.report import Finding, Printer, advice, finding, size_text, write_csv
from experiments.harness.calibration.search import Search, Size
from experiments.harness.calibration.trials import DEFAULTS, REFERENCE, SEED, Bench, architectures
from experiments.harness.evaluation.task_metrics import WAYS, Measure, measure_of
from experiments.harness.execution.execute import finished, read_rows
from experiments.harness.executors import Listed, Plan, Where, run_all
from synth.errors import UserError
from synth.task import Task


@dataclass(frozen=True)
class Grid:
    """The sizes of a task: names of the fields that vary, their values from easy to hard, whether these are ordered
    (numbers are), and the task at every size that it can have."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    ordered: tuple[bool, ...]
    tasks: dict[Size, Task]

    def named(self, size: Size) -> dict[str, Any]:
        """The fields of a size."""
        return {name: values[rank] for name, values, rank in zip(self.names, self.values, size, strict=True)}


def grid_of(spec: str, vary: Sequence[str], fixed: Sequence[str]) -> Grid:
    """The grid that the command line asks for. Raises UserError for unknown fields and where no size is left."""
    from experiments.harness.calibration.config_text import assignments, value, values_of
    from synth.registry import get_task, task_class

    cls, preset = task_class(spec)
    given = values_of(cls, assignments(fixed, "--fixed"), "--fixed")
    texts = {name: text.split(",") for name, text in assignments(vary, "--vary").items()}
    if twice := given.keys() & texts.keys():
        raise UserError(f"{min(twice)} is both in --fixed and in --vary; leave it out of one")
    values = tuple(tuple(dict.fromkeys(value(cls, n, text, "--vary") for text in many)) for n, many in texts.items())
    ordered = tuple(all(type(each) in (int, float) for each in many) for many in values)
    tasks, refused = dict[Size, Task](), ""
    for size in itertools.product(*(range(len(many)) for many in values)):
        chosen = {name: many[rank] for name, many, rank in zip(texts, values, size, strict=True)}
        try:
            tasks[size] = get_task(spec, **given, **chosen)
        except UserError as error:  # not every value of one field goes with every value of another
            refused = str(error)
    if not tasks:
        raise UserError(refused)
    return Grid(tuple(texts), values, ordered, tasks)


def add_options(parser: argparse.ArgumentParser, natural: Callable[[str], int]) -> None:
    """The options of the command; natural: reads a whole number of at least 1."""
    add = parser.add_argument
    add("task", metavar="TASK", help="name, preset or path/to/file.py:Class")
    add("--scale", choices=tuple(DEFAULTS), default="laptop", help="reference model and budget (default: laptop)")
    add("--vary", nargs="+", default=[], metavar="FIELD=A,B", help="sizes of the task, the easiest first")
    add("--fixed", nargs="+", default=[], metavar="FIELD=A", help="other fields of the task")
    add("--model", nargs="+", default=[], metavar="FIELD=A", help="fields of the reference's ModelConfig")
    add("--train", nargs="+", default=[], metavar="FIELD=A", help="fields of the TrainConfig")
    add("--lr", type=_rates, help="learning rates to try at every size, as in 1e-3,2e-3")
    add("--seconds", type=_positive, help="budget of one training, in seconds of one core (or of the GPU)")
    add("--arch", nargs="+", default=[], metavar="NAME=SWITCHES", help="models to compare, as in nope=positions:none")
    add("--by", choices=WAYS, help="how answers are judged (default: by what the task has)")
    add("--documents", type=natural, default=200, help="test documents of one evaluation (default: 200)")
    add("--jobs", type=natural, help="processes at a time (default: one per core; one with a GPU)")
    add("--into", type=Path, help="a CSV file for the table")


def _positive(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def _rates(text: str) -> tuple[float, ...]:
    return tuple(dict.fromkeys(_positive(piece) for piece in text.split(",")))


def bench_of(options: argparse.Namespace) -> Bench:
    """What the command line says of models and trainings. Raises UserError for unknown fields."""
    from experiments.harness.calibration.config_text import assignments, values_of
    from lm.config import ModelConfig, TrainConfig

    train = values_of(TrainConfig, assignments(options.train, "--train"), "--train")
    for name, instead in (("steps", "--seconds"), ("lr", "--lr")):
        if name in train:
            raise UserError(f"--train {name} is not yours to set; give {instead}")
    defaults = DEFAULTS[options.scale]
    return Bench(
        defaults,
        values_of(ModelConfig, assignments(options.model, "--model"), "--model"),
        train,
        architectures(ModelConfig, options.arch),
        options.lr or defaults.rates,
        options.seconds or defaults.seconds,
        options.runs,
    )


def calibrate(options: argparse.Namespace) -> None:
    """Search, print the table as it grows, and say which size to take. Raises UserError for bad input."""
    grid, bench = grid_of(options.task, options.vary, options.fixed), bench_of(options)
    measures = _checked(grid, bench, options)
    search = Search(list(grid.tasks), grid.ordered)
    findings: list[Finding] = []
    with Clock() as clock:
        printer = Printer([grid.named(size) for size in grid.tasks], (REFERENCE, *bench.architectures), clock.write)
        while (size := search.next()) is not None:
            new = _tried(grid, bench, size, measures[size], options, clock, len(search.left()))
            findings += new
            search.tell(size, printer.show(new))
            if options.into:
                write_csv(options.into, findings)
    verdicts = [(grid.named(size), search.verdicts[size]) for size in grid.tasks]
    print(advice(findings, verdicts))


def _checked(grid: Grid, bench: Bench, options: argparse.Namespace) -> dict[Size, Measure]:
    """How every size is measured. Raises UserError, or OSError of --into, for what else shows after hours."""
    if options.into and options.into.is_dir():
        raise UserError(f"{options.into} is a folder; give --into the name of a file")
    if options.into:
        options.into.parent.mkdir(parents=True, exist_ok=True)
    rooms, measures = dict[Size, int](), dict[Size, Measure]()
    for size, task in grid.tasks.items():
        with _naming(grid, size):
            measures[size] = measure_of(task, SEED, options.documents, options.by)
            model, train = bench.shape(task)
            rooms[size] = train.window
            for changes in bench.architectures.values():
                replace(model, **changes)
    slowest = max(rooms, key=lambda size: rooms[size])
    with _naming(grid, slowest):
        bench.steps(grid.tasks[slowest])
    return measures


@contextmanager
def _naming(grid: Grid, size: Size) -> Iterator[None]:
    """Say of which size an error is."""
    try:
        yield
    except UserError as error:
        name = size_text(grid.named(size))
        raise UserError(f"{name}: {error}" if name else str(error)) from error


def _tried(
    grid: Grid, bench: Bench, size: Size, measure: Measure, options: argparse.Namespace, clock: "Clock", left: int
) -> list[Finding]:
    """What the trainings at one size find; those that are kept are not done again. left: sizes still to be tried."""
    task, named = grid.tasks[size], grid.named(size)
    with _naming(grid, size):
        trials = bench.trials(task, measure)
    runs = [trial.run for trial in trials]
    kept = sum(finished(run, bench.root) for run in runs)
    clock.to_go(bench.seconds * (len(runs) * left - kept))
    part = clock.part(bench.time_of_a_step(task), size_text(named))
    run_all(
        Plan(Listed(tuple(runs)), options.scale, None, bench.root),
        runs,
        Where(jobs=options.jobs),
        lambda run: None,
        part,
    )
    return [finding(named, trial, measure, read_rows(trial.run, bench.root)) for trial in trials]


class Clock:
    """One bar over the whole search: how long it takes at most, in core-seconds of training."""

    def __enter__(self) -> "Clock":
        from tqdm import tqdm

        interval = 0.2 if sys.stderr.isatty() else 60.0
        form = "{percentage:3.0f}%|{bar}| {elapsed}, at most {remaining} left{postfix}"
        self.bar: Any = tqdm(total=0, bar_format=form, mininterval=interval, maxinterval=interval, smoothing=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def to_go(self, seconds: float) -> None:
        """So much is left: sizes that need not be tried, and runs that are kept, cost nothing."""
        self.bar.total = self.bar.n + seconds

    def part(self, seconds: float, text: str) -> "Part":
        """The bar of some trainings whose steps take so many seconds each."""
        return Part(self.bar, seconds, text)

    def write(self, line: str) -> None:
        """A line on standard output, above a terminal's bar."""
        if sys.stderr.isatty():
            self.bar.write(line, file=sys.stdout)
        else:
            print(line, flush=True)


class Part:
    """A bar in steps that moves a larger one in seconds."""

    def __init__(self, whole: Any, seconds: float, text: str) -> None:
        self.whole, self.seconds, self.text, self.n = whole, seconds, text, 0

    def update(self, steps: int) -> None:
        self.n += steps
        self.whole.update(min(steps * self.seconds, self.whole.total - self.whole.n))

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.whole.set_postfix_str(f"{self.text}: {text}", refresh)
