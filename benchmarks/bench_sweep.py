"""A sweep of forty runs at smoke scale by the Ray executor with two workers, against one process doing them in turn.

The runs are the first of every experiment of the suite at that scale, so that tasks, trainings and evaluations are what
users have; they are timed from the command's start to its last result, Ray's own start included. The second case is
what a run costs beside its work, once Ray is started: runs without a model, so many more of which take so much longer.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers import TASK, threads
from benchmarks.timing import Row, Side, compared, interleaved
from experiments.harness import Run
from experiments.harness.executors import Listed, Plan, Where, run_all
from experiments.harness.study import discover
from synth.task import Task

RUNS, WORKERS = 40, 2
BAR, OVERHEAD = 1.6, 0.3  # times as fast; seconds that a run may cost beside its work


@dataclass(frozen=True)
class Nothing:
    """An evaluation that takes no time."""

    number: int

    def measure(self, model: Any, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        return {"nothing": 0}


def smoke_runs(count: int) -> list[Run]:
    """The first of every experiment, then the second of every, and so on."""
    each = [experiment.runs("smoke") for experiment in discover()]
    return [run for run in chain(*zip_longest(*each)) if run is not None][:count]


def seconds(runs: list[Run], where: Where) -> float:
    """From nothing to all results."""
    with TemporaryDirectory() as folder, open(os.devnull, "w") as silence:
        from tqdm import tqdm

        began = time.perf_counter()
        with tqdm(file=silence) as bar:
            run_all(Plan(Listed(tuple(runs)), "smoke", None, Path(folder)), runs, where, lambda run: None, bar)
        return time.perf_counter() - began


def swept(runs: list[Run], where: Where) -> Side:
    """Runs a second."""
    return lambda: len(runs) / seconds(runs, where)


def further(runs: list[Run], where: Where) -> Side:
    """Runs a second of two thirds of the runs, when the executor has started and done a third."""
    third = len(runs) // 3

    def side() -> float:
        return (len(runs) - third) / max(seconds(runs, where) - seconds(runs[:third], where), 1e-3)

    return side


def run(quick: bool) -> Iterator[Row]:
    """Runs a second, and seconds a run beside its work."""
    count = 2 if quick else RUNS
    ray, inline = Where("ray", jobs=1 if quick else WORKERS), Where(jobs=1)
    runs = smoke_runs(count)
    with threads(1 if quick else WORKERS):
        ours, theirs = interleaved(swept(runs, ray), swept(runs, inline), rounds=1 if quick else 3)
        about: dict[str, Any] = {"threads": WORKERS, "bar": BAR}
        yield compared(f"{count} smoke runs, Ray", "runs/s", ours, "one process, in turn", theirs, **about)
        empty = [Run("sweep", TASK, None, None, (Nothing(number),)) for number in range(3 * count)]
        ours, theirs = interleaved(further(empty, ray), further(empty, inline), rounds=1 if quick else 3)
        about |= {"bar": 1 / OVERHEAD, "bar_on": "value"}
        yield compared(
            f"{2 * count} runs without work, Ray once started", "runs/s", ours, "one process", theirs, **about
        )
