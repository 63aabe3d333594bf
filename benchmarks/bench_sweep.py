"""A sweep of forty runs at smoke scale by the Ray executor with two workers, against one process doing them in turn.

The runs are the first of every experiment of the suite at that scale, so that tasks, trainings and evaluations are what
users have; they are timed from the command's start to its last result, Ray's own start included. The second case is
what a run costs beside its work, once Ray is started: runs that have none, from the first result to the last.
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
from benchmarks.timing import Row, Side, compared
from experiments.harness import Run
from experiments.harness.executors import Listed, Plan, Where, check_executor, run_all
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


def moments(runs: list[Run], where: Where) -> list[float]:
    """Seconds from the command's start to each result."""
    with TemporaryDirectory() as folder, open(os.devnull, "w") as silence:
        from tqdm import tqdm

        check_executor(where)
        began, ended = time.perf_counter(), []
        plan = Plan(Listed(tuple(runs)), "smoke", None, Path(folder))
        with tqdm(file=silence) as bar:
            run_all(plan, runs, where, lambda run: ended.append(time.perf_counter() - began), bar)
        return ended


def swept(runs: list[Run], where: Where) -> Side:
    """Runs a second, the start included."""
    return lambda: len(runs) / moments(runs, where)[-1]


def started(runs: list[Run], where: Where) -> Side:
    """Runs a second after the first, when everything has started."""

    def side() -> float:
        first, *_, last = moments(runs, where)
        return (len(runs) - 1) / (last - first)

    return side


def run(quick: bool) -> Iterator[Row]:
    """Runs a second, with all their work and without any."""
    count, rounds = (2, 1) if quick else (RUNS, 3)
    ray, inline = Where("ray", jobs=1 if quick else WORKERS), Where(jobs=1)
    empty = [Run("sweep", TASK, None, None, (Nothing(number),)) for number in range(count)]
    about: dict[str, Any] = {"threads": WORKERS}
    with threads(1 if quick else WORKERS):
        if not quick:  # every start of Ray takes seconds, and the other case is as good a try
            runs = smoke_runs(count)
            ours, theirs = in_turns(swept(runs, ray), swept(runs, inline), rounds)
            yield compared(f"{count} smoke runs, Ray", "runs/s", ours, "one process, in turn", theirs, bar=BAR, **about)
        ours, theirs = in_turns(started(empty, ray), started(empty, inline), rounds)
        about |= {"bar": 1 / OVERHEAD, "bar_on": "value"}
        yield compared(f"{count} runs without work, Ray once started", "runs/s", ours, "one process", theirs, **about)


def in_turns(one: Side, other: Side, rounds: int) -> tuple[list[float], list[float]]:
    """The rates of two sides, without a warm-up: a command is new every time."""
    turns = [(one(), other()) for _ in range(rounds)]
    return [a for a, _ in turns], [b for _, b in turns]
