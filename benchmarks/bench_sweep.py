"""A sweep of forty runs at smoke scale by the Ray executor with two workers, against one process doing them in turn.

The runs are the first of every experiment of the suite at that scale, so that tasks, trainings and evaluations are what
users have; each is a quarter of a second, so that Ray's start (and its workers' imports, which the process that
measures has behind it) weighs more than all of them. Both are shown: from the start, and from the first result on. The
last case is what a run costs beside its work: runs that have none.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers import TASK, threads
from benchmarks.timing import Row, compared
from experiments.harness import Run
from experiments.harness.executors import Listed, Plan, Where, check_executor, run_all
from experiments.harness.experiment import discover
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


def in_turns(runs: list[Run], one: Where, other: Where, rounds: int) -> list[tuple[list[float], list[float]]]:
    """The moments of both in every round, without a warm-up: a command is new every time."""
    return [(moments(runs, one), moments(runs, other)) for _ in range(rounds)]


def from_the_start(ended: list[float]) -> float:
    """Runs a second."""
    return len(ended) / ended[-1]


def once_started(ended: list[float]) -> float:
    """Runs a second after the first, by when everything has started."""
    return (len(ended) - 1) / (ended[-1] - ended[0])


def run(quick: bool) -> Iterator[Row]:
    """Runs a second, with all their work and without any."""
    count, rounds = (2, 1) if quick else (RUNS, 5)
    ray, inline = Where("ray", jobs=1 if quick else WORKERS), Where(jobs=1)
    empty = [Run("sweep", TASK, None, None, (Nothing(number),)) for number in range(count)]
    with threads(1 if quick else WORKERS):
        if not quick:  # every start of Ray takes seconds, and the other case is as good a try
            turns = in_turns(smoke_runs(count), ray, inline, rounds)
            yield _row(f"{count} smoke runs, Ray, its start included", turns, from_the_start)
            yield _row(f"{count} smoke runs, Ray once started", turns, once_started, bar=BAR)
        turns = in_turns(empty, ray, inline, rounds)
        yield _row(
            f"{count} runs without work, Ray once started", turns, once_started, bar=1 / OVERHEAD, bar_on="value"
        )


def _row(
    case: str, turns: list[tuple[list[float], list[float]]], rate: Callable[[list[float]], float], **bar: Any
) -> Row:
    ours, theirs = zip(*[(rate(one), rate(other)) for one, other in turns], strict=True)
    return compared(case, "runs/s", ours, "one process, in turn", theirs, threads=WORKERS, **bar)
