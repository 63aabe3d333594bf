"""Trainings that diverged end no figure, no claims and no ledger, and decide nothing."""

import shutil
from pathlib import Path

import pandas
import pytest

from experiments.harness.experiment import Experiment, discover
from experiments.harness.reporting.claims import DECIDED
from experiments.harness.reporting.diverged import draw_measured, judge_measured
from experiments.harness.reporting.ledger import build_ledger, to_markdown, to_text
from experiments.harness.run import evaluation_settings
from tests.contracts.test_architecture import ROOT

ORIGIN = ["run", "experiment", "scale", "seed_data", "seed_init", "seed_order", "parameters", "tokens", "steps"]
ORIGIN += ["git_commit", "device", "seconds", "evaluation"]
EXPERIMENTS = [one for one in discover() if "laptop" in one.scales_with_tables(ROOT / "results")]


def committed(experiment: Experiment) -> pandas.DataFrame:
    path = ROOT / "results" / experiment.name / "laptop" / "table.csv"
    return pandas.read_csv(path, keep_default_na=False, na_values=[""])


def spoil(experiment: Experiment, table: pandas.DataFrame, lost: list[str]) -> pandas.DataFrame:
    """The table that the harness would have made if these runs had diverged: a row for every evaluation, with its
    settings, the run's tags, and no metrics."""
    runs = experiment.runs("laptop")
    kept = {name for run in runs for name in dict(run.tags)}
    kept |= {name for run in runs for each in run.evaluations for name in evaluation_settings(each)}
    rows = table[table["run"].isin(lost)].drop_duplicates(["run", "evaluation"]).copy()
    for column in set(rows.columns) - kept - set(ORIGIN):
        rows[column] = float("nan")
    rows = rows.assign(diverged=True, diverged_at=7)
    parts = [table[~table["run"].isin(lost)].assign(diverged=False), rows]
    return pandas.concat([part for part in parts if len(part)]).sort_index(kind="stable").reset_index(drop=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.number)
def test_one_lost_run_or_all_of_them(experiment: Experiment) -> None:
    table, module = committed(experiment), experiment.load_module()
    runs = list(dict.fromkeys(table["run"]))
    before = {(claim.id, claim.statement): claim for claim in judge_measured(module, table)}
    for lost in (runs[:1], runs[len(runs) // 2 :][:1], runs[-1:]):
        spoiled = spoil(experiment, table, lost)
        draw_measured(module, spoiled)
        after = {(claim.id, claim.statement): claim for claim in judge_measured(module, spoiled)}
        assert after.keys() == before.keys() or len(after) >= len(before) - 2
        for line, claim in after.items():
            fewer = claim.n is not None and line in before and claim.n < (before[line].n or 0)
            assert not (fewer and claim.verdict in DECIDED), claim
    spoiled = spoil(experiment, table, runs)
    draw_measured(module, spoiled)
    assert not judge_measured(module, spoiled)


def test_the_rule_says_why() -> None:
    class Module:
        """Stands for a script."""

        @staticmethod
        def claims(table: pandas.DataFrame) -> list:
            from experiments.harness.reporting.claims import ClaimList

            made = ClaimList(table)
            for arm in ("a", "b"):
                values = table[table["arm"] == arm].set_index("seed_init")["value"]
                made.add("mine", arm, values, None, "above 0", above=0.0)
            return made

    rows = [{"run": f"{arm}{k}", "arm": arm, "seed_init": k, "scale": "laptop", "value": 1 + k / 9}
            for k in range(3) for arm in "ab"]  # fmt: skip
    table = pandas.DataFrame(rows)
    assert [claim.verdict for claim in judge_measured(Module, table)] == ["reproduced"] * 2  # type: ignore[arg-type]
    table["diverged"] = table["run"] == "b2"
    table.loc[table["diverged"], "value"] = None
    whole, lost = judge_measured(Module, table)  # type: ignore[arg-type]
    assert whole.verdict == "reproduced" and lost.verdict == "not testable" and lost.without_gate == "reproduced"
    assert lost.gate == "seeds lost: 1 of 6 trainings diverged"
    keeps = type("Keeps", (Module,), {"KEEPS_DIVERGED": True})
    assert [claim.verdict for claim in judge_measured(keeps, table)] == ["reproduced"] * 2
    table["diverged"] = table["seed_init"] < 2
    assert {claim.gate for claim in judge_measured(keeps, table)} == {"4 of 6 trainings diverged"}


def test_a_table_that_cannot_be_judged_is_marked_and_the_others_are_judged(tmp_path: Path) -> None:
    for name in ("04_cfg_robustness", "15_canon_playground"):
        shutil.copytree(ROOT / "results" / name / "laptop", tmp_path / name / "laptop")
    whole = build_ledger(tmp_path)
    (tmp_path / "04_cfg_robustness" / "laptop" / "table.csv").write_text("run,scale\nx,laptop\n")
    broken = build_ledger(tmp_path)
    assert [experiment.number for experiment, _ in broken.broken] == ["04"] and not whole.broken
    verdicts = {entry.id: claim for entry, claim, _ in broken.verdicts}
    assert verdicts["1.9"].verdict == "not run" and "cannot be judged" in verdicts["1.9"].note
    assert verdicts["4.1"] == {entry.id: claim for entry, claim, _ in whole.verdicts}["4.1"]
    assert "04 cannot be judged" in to_text(tmp_path) and "## 04 cannot be judged" in to_markdown(tmp_path)


def test_a_configuration_that_is_gone_is_missed_by_no_extreme() -> None:
    experiment = next(one for one in EXPERIMENTS if one.number == "10")
    table, module = committed(experiment), experiment.load_module()
    gone = table[(table["times"] == 1000) & (table["width"] == 8)]["run"].unique().tolist()
    after = judge_measured(module, spoil(experiment, table, gone))
    assert len(gone) == 5 and {claim.verdict for claim in after} <= {"not testable", "not run"}
