"""Forty runs at smoke scale by the Ray executor with two workers, against one process that does them in turn.

The runs are the first ones of every experiment. Each takes a quarter of a second, so Ray's start and its workers'
imports dominate; rates are shown from the start and from the first result on. The last case measures the overhead of a
run, by runs without work.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peers import TASK, threads
from benchmarks.timing import Row, compare
from experiments.harness import Run
from experiments.harness.executors import ExecutorConfig, JobSpec, StaticRuns, check_executor, run_all
from experiments.harness.experiment import discover
from synth.task import Task

RUNS, WORKERS = 40, 2
BAR, OVERHEAD = 1.6, 0.3  # times as fast; seconds that a run may cost beside its work


@dataclass(frozen=True)
class NoOpEvaluation:
    """An evaluation that takes no time."""

    number: int

    def measure(self, model: Any, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        return {"nothing": 0}


def smoke_runs(count: int) -> list[Run]:
    """The first `count` runs, taken from the experiments in turn."""
    each = [experiment.runs("smoke") for experiment in discover()]
    return [run for run in chain(*zip_longest(*each)) if run is not None][:count]


def result_times(runs: list[Run], where: ExecutorConfig) -> list[float]:
    """Seconds from the start to each result."""
    with TemporaryDirectory() as folder, open(os.devnull, "w") as silence:
        from tqdm import tqdm

        check_executor(where)
        began, ended = time.perf_counter(), []
        plan = JobSpec(StaticRuns(tuple(runs)), "smoke", None, Path(folder))
        with tqdm(file=silence) as bar:
            run_all(plan, runs, where, lambda run: ended.append(time.perf_counter() - began), bar)
        return ended


def alternate(
    runs: list[Run], one: ExecutorConfig, other: ExecutorConfig, rounds: int
) -> list[tuple[list[float], list[float]]]:
    """`result_times` of both executors in every round, without a warm-up."""
    return [(result_times(runs, one), result_times(runs, other)) for _ in range(rounds)]


def from_the_start(ended: list[float]) -> float:
    """Runs/s from the start."""
    return len(ended) / ended[-1]


def runs_per_second_after_first(ended: list[float]) -> float:
    """Runs/s after the first result, when everything has started."""
    return (len(ended) - 1) / (ended[-1] - ended[0])


def run(quick: bool) -> Iterator[Row]:
    """Runs/s with and without work."""
    if find_spec("ray") is None:
        print('sweep: left out, as Ray is not installed; pip install -e ".[cluster]"', file=sys.stderr)
        return
    count, rounds = (2, 1) if quick else (RUNS, 5)
    ray, inline = ExecutorConfig("ray", jobs=1 if quick else WORKERS), ExecutorConfig(jobs=1)
    empty = [Run("sweep", TASK, None, None, (NoOpEvaluation(number),)) for number in range(count)]
    with threads(1 if quick else WORKERS):
        if not quick:  # each start of Ray takes seconds; the other case is test enough
            turns = alternate(smoke_runs(count), ray, inline, rounds)
            yield _row(f"{count} smoke runs, Ray, its start included", turns, from_the_start)
            yield _row(f"{count} smoke runs, Ray once started", turns, runs_per_second_after_first, bar=BAR)
        turns = alternate(empty, ray, inline, rounds)
        yield _row(
            f"{count} runs without work, Ray once started",
            turns,
            runs_per_second_after_first,
            bar=1 / OVERHEAD,
            bar_on="value",
        )


def _row(
    case: str, turns: list[tuple[list[float], list[float]]], rate: Callable[[list[float]], float], **bar: Any
) -> Row:
    ours, theirs = zip(*[(rate(one), rate(other)) for one, other in turns], strict=True)
    return compare(case, "runs/s", ours, "one process, in turn", theirs, threads=WORKERS, **bar)
