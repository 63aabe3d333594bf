"""The ids of all runs stay: by them results are found again, whatever the code is called that made them."""

import csv
from pathlib import Path

import pytest

from experiments.harness.experiment import Experiment, discover
from experiments.harness.run import SCALES, run_id
from synth.identity import digest

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("run_ids.csv")
EXPERIMENTS = {experiment.name: experiment for experiment in discover()}


def recorded() -> dict[tuple[str, str], tuple[int, str]]:
    with RECORD.open() as file:
        return {(row["experiment"], row["scale"]): (int(row["runs"]), row["ids"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_has_the_id_it_had(name: str) -> None:
    """Where runs were changed on purpose: put the line that is printed into run_ids.csv, and say why in the journal."""
    for scale in SCALES:
        ids = [run_id(run) for run in EXPERIMENTS[name].runs(scale)]
        assert recorded()[name, scale] == (len(ids), digest(ids, 8)), f"{name},{scale},{len(ids)},{digest(ids, 8)}"


def test_the_record_names_no_experiment_that_is_gone() -> None:
    assert {name for name, _ in recorded()} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_committed_tables_hold_runs_of_today(name: str) -> None:
    experiment: Experiment = EXPERIMENTS[name]
    for scale in experiment.scales_with_tables(ROOT / "results"):
        with (ROOT / "results" / name / scale / "table.csv").open() as file:
            there = {row["run"] for row in csv.DictReader(file)}
        assert there <= {run_id(run) for run in experiment.runs(scale)}
