"""Figures of the runs that are done are not drawn more often than they are worth."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_experiment
import pytest

from experiments.harness.execution.execute import execute
from experiments.harness.experiment import Experiment
from experiments.harness.reporting import live


@pytest.mark.parametrize(("seconds", "drawn"), [(0.0, 5), (10.0, 1)])
def test_redrawing_takes_a_tenth_of_the_time(
    seconds: float, drawn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With six runs that each take a second; the last is left to the whole figure."""
    path = tmp_path / "experiments" / "01_fake.py"
    path.parent.mkdir()
    path.write_bytes(Path(fake_experiment.__file__).read_bytes())
    experiment, root, clock, calls = Experiment(path), tmp_path / "runs", [100.0], list[Any]()
    runs = experiment.runs("laptop")
    report = live.LiveReport(experiment, "laptop", runs, root, tmp_path / "results")

    def draw(*given: Any) -> list[Path]:
        calls.append(given)
        clock[0] += seconds
        return [path]

    monkeypatch.setattr(report, "_write", draw)
    monkeypatch.setattr(live, "time", _Clock(lambda: clock[0]))
    for run in runs:
        execute(run, root)
        clock[0] += 1
        report.on_run_done(run)
    assert len(calls) == drawn


class _Clock:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic, self.time = monotonic, time.time
