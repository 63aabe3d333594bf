"""What a learning curve costs: runs of the laptop scale, measured at eight log-spaced steps and at the end, against the
same runs measured at the end alone.

The evaluation during training is a tenth of the one at the end: a curve needs its shape, the end the small interval.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers import threads
from benchmarks.timing import Row, compare, measure_in_turns, rate_of
from experiments.harness import Curve, Run, log_spaced_steps
from experiments.harness.execution.execute import execute
from experiments.harness.experiment import select

BAR = 1 / 1.10  # of the rate without: at most a tenth of the time more
POINTS, ROUNDS = 8, 3


def laptop_run(number: str, scale: str, **tags: str) -> Run:
    """The first run of an experiment with these tags."""
    (experiment,) = select([number])
    return next(run for run in experiment.runs(scale) if tags.items() <= dict(run.tags).items())


def with_curve(run: Run) -> Run:
    """The run with a curve; its evaluations during training read a tenth of what those at the end do."""
    sizes = ("samples", "kl_sentences", "documents")
    cheaper = [
        replace(each, **{name: getattr(each, name) // 10 for name in sizes if hasattr(each, name)})
        for each in run.evaluations
        if any(hasattr(each, name) for name in sizes)
    ]
    return replace(run, curve=Curve(log_spaced_steps(run.steps, POINTS), tuple(cheaper)))


def execute_once(run: Run) -> float:
    """Execute a run in a folder of its own; returns 1, the number of runs."""
    with TemporaryDirectory() as folder:
        execute(run, Path(folder))
    return 1.0


def run(quick: bool) -> Iterator[Row]:
    """Runs/s with and without a curve: a grammar (experiment 01) and steps on a cycle (experiment 15)."""
    scale = "smoke" if quick else "laptop"
    with threads(1):
        for number, tags in (("01", {"architecture": "rotary"}), ("15", {"task": "depo", "architecture": "rotary"})):
            plain = laptop_run(number, scale, **tags)
            sides = [rate_of(partial(execute_once, each)) for each in (with_curve(plain), plain)]
            ours, theirs = measure_in_turns(*sides, rounds=1 if quick else ROUNDS)
            case = f"experiment {number} at {scale} scale, {POINTS} steps"
            yield compare(case, "runs/s", ours, "the same without", theirs, threads=1, bar=None if quick else BAR)
