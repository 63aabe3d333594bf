"""Worker processes are kept from experiment to experiment, and replaced when they are lost."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fake_experiment import Coin

from experiments.harness import Run
from experiments.harness.execution.execute import read_rows
from experiments.harness.executors import ExecutorConfig, JobSpec, StaticRuns, kept_workers, run_all
from synth.errors import UserError


@dataclass(frozen=True)
class Process:
    """The process that measures, and what its environment says; with `kill` it ends there."""

    kill: bool = False

    def measure(self, *_: Any) -> dict[str, Any]:
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"process": os.getpid(), "said": os.environ.get("FAKE_WORD", "")}


RUNS = tuple(Run("01_fake", Coin(ones), None, None, (Process(),)) for ones in (0.1, 0.2, 0.3, 0.4))


def processes(root: Path, runs: tuple[Run, ...] = RUNS, jobs: int = 2) -> set[int]:
    """The processes that did the runs."""
    done: list[Run] = []
    run_all(JobSpec(StaticRuns(runs), "smoke", None, root), runs, ExecutorConfig(jobs=jobs), done.append)
    assert sorted(map(repr, done)) == sorted(map(repr, runs))
    return {read_rows(run, root)[0]["process"] for run in runs}


def test_workers_are_kept_within_the_context(tmp_path: Path) -> None:
    with kept_workers():
        found = [processes(tmp_path / name) for name in ("one", "two", "three")]
        assert len(set.union(*found)) <= 2 and os.getpid() not in set.union(*found)
        assert not set.union(*found) & processes(tmp_path / "wider", jobs=3)
    assert not set.union(*found) & processes(tmp_path / "after")


def test_workers_that_were_killed_are_replaced(tmp_path: Path) -> None:
    deadly = (*RUNS[:2], replace(RUNS[2], evaluations=(Process(kill=True),)))
    with kept_workers():
        before = processes(tmp_path / "one")
        with pytest.raises(UserError, match="a worker process was killed"):
            processes(tmp_path / "two", deadly)
        assert not before & processes(tmp_path / "three")


def test_workers_have_the_environment_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for word in ("early", "late"):
        monkeypatch.setenv("FAKE_WORD", word)
        processes(tmp_path / word)
        assert {read_rows(run, tmp_path / word)[0]["said"] for run in RUNS} == {word}
