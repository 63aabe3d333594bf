"""What is committed is what the code at hand makes: run ids, figures and ledger."""

from pathlib import Path

import pytest

from experiments.harness.experiment import TABLE_NAME, Experiment, discover
from experiments.harness.reporting.table import read_table
from experiments.harness.run import run_id
from experiments.harness.statistics.sequential import design_of

RESULTS = Path(__file__).resolve().parents[2] / "results"
TABLES = [(e, scale) for e in discover() for scale in e.scales_with_tables(RESULTS)]


@pytest.mark.parametrize(("experiment", "scale"), TABLES, ids=[f"{e.name}-{scale}" for e, scale in TABLES])
def test_a_committed_table_holds_the_runs_of_the_code(experiment: Experiment, scale: str) -> None:
    """A changed number in an experiment, task or model changes its run ids; then run it again and commit its table."""
    table = read_table(RESULTS / experiment.name / scale / TABLE_NAME)
    design = design_of(table)
    first = {run_id(run) for run in experiment.runs(scale, design.looks[0] if "looks" in table else None)}
    more = {run_id(run) for run in experiment.runs(scale, design.looks[-1])} if "looks" in table else first
    assert first <= set(table["run"]) <= more
    for name in ("figure.png", "figure.svg"):
        assert (RESULTS / experiment.name / scale / name).is_file()


def test_something_is_committed() -> None:
    assert ("01_cfg_generation", "laptop") in [(e.name, scale) for e, scale in TABLES]
