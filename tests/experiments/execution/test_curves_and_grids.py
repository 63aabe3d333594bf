"""Evaluations during training, plateaus, and settings chosen from a grid: done once, resumed, and in the table."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_experiment import Coin

from experiments.harness import Curve, Grid, Plateau, Run, Seeds, Stage, log_spaced_steps, run_id, train_grid
from experiments.harness.execution.execute import execute, rows_reader
from experiments.harness.execution.tuning import close_trials, first_trials, grid_table, runs_and_variants
from experiments.harness.executors import ExecutorConfig, JobSpec, StaticRuns, run_all
from experiments.harness.grid import best_candidate, close_candidates
from experiments.harness.planning.cost import estimate_costs
from experiments.harness.reporting.table import last_rows, to_table
from lm.config import ModelConfig, TrainConfig
from synth import UserError

TRAIN = TrainConfig(steps=40, batch_size=2, seq_len=16, schedule="constant")
MODEL = ModelConfig(n_layers=1, n_heads=2, d_model=8, max_seq_len=16)


@dataclass(frozen=True)
class Weights:
    """The sum of the absolute weights: another number after every step; each call is counted."""

    parts: int = 1
    calls: ClassVar[list[float]] = []

    def measure(self, model: Any, task: Coin, data_seed: int, seed: int) -> dict[str, Any]:
        value = sum(float(p.detach().abs().sum()) for p in model.parameters())
        Weights.calls.append(value)
        return {"weights": value, "size": float(len(list(model.parameters())))}


def make_run(**changes: Any) -> Run:
    return Run("01_fake", Coin(), MODEL, TRAIN, (Weights(),), **changes)


# ---- curves ----------------------------------------------------------------------------------------------------
def test_log_spaced_steps_end_at_the_last_step() -> None:
    assert log_spaced_steps(1000, 4, 1) == (1, 10, 100, 1000)
    assert log_spaced_steps(40)[0] == 1 and log_spaced_steps(40)[-1] == 40
    assert list(log_spaced_steps(7, 20)) == sorted(set(log_spaced_steps(7, 20)))
    with pytest.raises(UserError, match="points"):
        log_spaced_steps(10, 8, 11)


def test_a_curve_measures_the_model_of_every_step(tmp_path: Path) -> None:
    rows = execute(make_run(curve=Curve((5, 20, 40))), tmp_path)
    assert rows is not None and [row["step"] for row in rows] == [5, 20, 40]
    for row in rows[:2]:
        short = replace(make_run(), train=replace(TRAIN, steps=row["step"]))
        (alone,) = execute(short, tmp_path) or ()
        assert alone["weights"] == row["weights"]
    (whole,) = execute(make_run(), tmp_path) or ()
    assert whole["weights"] == rows[2]["weights"] and whole["step"] == 40
    folder = tmp_path / run_id(make_run(curve=Curve((5, 20, 40))))
    assert sorted(path.name for path in (folder / "snapshots").iterdir()) == ["20", "5"]
    table = to_table([rows], "laptop")
    assert list(last_rows(table)["step"]) == [40]


def test_a_curve_may_ask_for_less(tmp_path: Path) -> None:
    rows = execute(make_run(curve=Curve((10,), (Weights(2),))), tmp_path)
    assert rows is not None and [(row["step"], row["parts"]) for row in rows] == [(10, 2), (40, 2), (40, 1)]


def test_a_curve_counts_steps_over_all_stages(tmp_path: Path) -> None:
    later = (Stage(Coin(0.9), replace(TRAIN, steps=10)),)
    rows = execute(make_run(later_stages=later, curve=Curve((30, 45))), tmp_path)
    assert rows is not None and [row["step"] for row in rows] == [30, 45, 50]
    with pytest.raises(UserError, match="step 51 of its curve"):
        make_run(later_stages=later, curve=Curve((30, 51)))


def test_a_plateau_ends_the_training_where_it_is_reached(tmp_path: Path) -> None:
    until = Plateau("size", min_gain=0.1, patience=2)  # the number of weights does not change
    rows = execute(make_run(curve=Curve((2, 4, 6, 8, 20), until=until)), tmp_path)
    assert rows is not None and [row["step"] for row in rows] == [2, 4, 6]
    assert {row["steps"] for row in rows} == {6}
    short = replace(make_run(), train=replace(TRAIN, steps=6))
    (alone,) = execute(short, tmp_path) or ()
    assert alone["weights"] == rows[-1]["weights"]


def test_what_a_plateau_measured_is_not_measured_again(tmp_path: Path) -> None:
    Weights.calls.clear()
    rows = execute(make_run(curve=Curve((2, 4, 6), until=Plateau("weights", 0.0, patience=3))), tmp_path)
    assert rows is not None and len(rows) == 4 and len(Weights.calls) == 4


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.1, 0.5, 0.5, 0.5], True),
        ([0.1, 0.5, 0.5], False),
        ([0.5, 0.5, 0.5, 0.52], True),
        ([0.5, 0.5, 0.5, 0.6], False),
        ([0.1, 0.1, 0.1, 0.1], False),
        ([0.5, float("nan"), 0.5, 0.5], True),
    ],
)
def test_plateaus(values: list[float], reached: bool) -> None:
    assert Plateau("accuracy", 0.05, patience=2, not_before=0.3).reached(values) == reached
    falling = Plateau("loss", 0.05, patience=2, goal="min", not_before=-0.3)
    assert falling.reached([-value for value in values]) == reached


def test_a_plateau_of_an_unknown_column_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no evaluation of the curve has a column 'accuracy'.*size, weights"):
        execute(make_run(curve=Curve((2, 4), until=Plateau("accuracy", 0.1))), tmp_path)


def test_bad_curves_are_refused() -> None:
    for steps in ((), (3, 2), (0, 1), (2, 2)):
        with pytest.raises(UserError, match="a curve cannot have"):
            Curve(steps)
    with pytest.raises(UserError, match="patience"):
        Plateau("x", 0.1, patience=0)


# ---- grids -----------------------------------------------------------------------------------------------------
RATES = (1e-3, 1e-2, 1e-1)
GRID = Grid(train_grid(TRAIN, lr=RATES), criterion="weights", goal="max", evaluations=(Weights(),))


def test_the_best_candidate_of_other_seeds_is_trained(tmp_path: Path) -> None:
    run = make_run(grid=GRID, seeds=Seeds.all_equal(3), tags={"coin": "fair"})
    rows = execute(run, tmp_path)
    by_hand = {
        rate: execute(replace(make_run(seeds=Seeds.all_equal(1000)), train=replace(TRAIN, lr=rate)), tmp_path)
        for rate in RATES
    }
    best = max(RATES, key=lambda rate: by_hand[rate][0]["weights"])  # type: ignore[index]
    assert rows is not None and rows[0]["lr"] == best and rows[0]["run"] == run_id(run)
    assert rows[0]["grid_edge"] == ("lr" if best != RATES[1] else "")
    (alone,) = execute(replace(make_run(seeds=Seeds.all_equal(3)), train=replace(TRAIN, lr=best)), tmp_path) or ()
    assert alone["weights"] == rows[0]["weights"]
    table = grid_table([run], rows_reader(tmp_path))
    assert table is not None and list(table["lr"]) == list(RATES) and set(table["seed"]) == {1000}
    assert list(table.loc[table["chosen"], "lr"]) == [best] and set(table["arm"]) == {"coin fair"}
    assert list(table["criterion"]) == [by_hand[rate][0]["weights"] for rate in RATES]  # type: ignore[index]


def test_close_candidates_get_two_more_seeds(tmp_path: Path) -> None:
    run = make_run(grid=replace(GRID, tie_margin=1e9))
    rows = execute(run, tmp_path)
    table = grid_table([run], rows_reader(tmp_path))
    assert table is not None and rows is not None and len(table) == 9
    means = table.groupby("lr")["criterion"].mean()
    assert rows[0]["lr"] == means.idxmax()


def test_seeds_of_an_arm_share_their_trials(tmp_path: Path) -> None:
    runs = [make_run(grid=GRID, seeds=Seeds.all_equal(k)) for k in range(3)]
    assert len({run_id(run) for run in first_trials(runs)}) == 3
    costs = estimate_costs(runs, tmp_path)
    assert [cost.runs for cost in costs] == [1, 1, 1, 3]


@pytest.mark.parametrize("jobs", [1, 2])
def test_executors_do_trials_first_and_everything_once(tmp_path: Path, jobs: int) -> None:
    runs = [make_run(grid=replace(GRID, tie_margin=1e9), seeds=Seeds.all_equal(k)) for k in range(2)]
    done: list[str] = []
    spec = JobSpec(StaticRuns(tuple(runs)), "laptop", None, tmp_path)
    run_all(spec, runs, ExecutorConfig(jobs=jobs), lambda run: done.append(run_id(run)))
    assert set(done[-2:]) == {run_id(run) for run in runs} and len(done) == len(set(done)) == 11
    assert {run_id(run) for run in runs_and_variants(runs)} >= set(done)
    assert not [t for t in close_trials(runs, rows_reader(tmp_path)) if not (tmp_path / run_id(t)).exists()]


def test_batches_of_a_grid_may_change_the_steps() -> None:
    grid = Grid(
        (replace(TRAIN, batch_size=1, steps=80), replace(TRAIN, batch_size=2), replace(TRAIN, batch_size=4, steps=20))
    )
    assert grid.axes == ("batch_size",) and grid.settings(grid.candidates[0]) == {"batch": 1}
    assert grid.edges(grid.candidates[0]) == ["batch_size"] and grid.edges(grid.candidates[1]) == []


def test_the_choice_is_by_the_mean_of_the_candidates_with_most_seeds() -> None:
    assert close_candidates(replace(GRID, tie_margin=0.1), [0.5, 0.55, None]) == [0, 1]
    assert close_candidates(replace(GRID, tie_margin=0.01), [0.5, 0.55, None]) == []
    assert best_candidate(GRID, {0: [0.5, 0.6, 0.7], 1: [0.55, 0.5, 0.5], 2: [0.9]}) == 0
    assert best_candidate(replace(GRID, goal="min"), {0: [0.5], 1: [0.4], 2: [float("nan")]}) == 1
    assert best_candidate(GRID, {0: [0.5], 1: [0.5]}) == 0


def test_bad_grids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two different candidates"):
        Grid((TRAIN, TRAIN))
    with pytest.raises(UserError, match="has a tag 'lr', which its grid chooses"):
        make_run(grid=GRID, tags={"lr": 1.0})
    with pytest.raises(UserError, match="no stage 1"):
        make_run(grid=replace(GRID, stage=1))
    with pytest.raises(UserError, match="no trial has the criterion 'accuracy'"):
        execute(make_run(grid=replace(GRID, criterion="accuracy")), tmp_path)


def test_runs_without_curve_and_grid_have_the_ids_of_before() -> None:
    assert run_id(make_run()) == run_id(make_run(curve=None, grid=None))
    ids = [run_id(make_run(curve=Curve((5,)))), run_id(make_run(curve=Curve((6,)))), run_id(make_run(grid=GRID))]
    assert len({*ids, run_id(make_run())}) == 4


# ---- faults ----------------------------------------------------------------------------------------------------
def test_a_damaged_snapshot_is_trained_again(tmp_path: Path) -> None:
    run = make_run(curve=Curve((10, 20)))
    before = execute(run, tmp_path)
    for damage in (lambda model: model.joinpath("model.safetensors").write_bytes(b""), shutil.rmtree):
        shutil.rmtree(tmp_path / run_id(run))
        (cached,) = [path for path in (tmp_path / ".models").iterdir() if path.is_dir() and "." not in path.name]
        for rows in cached.glob("snapshots/*/rows-*"):
            rows.unlink()
        damage(cached / "snapshots" / "10" / "model")
        with pytest.raises(UserError, match="run the same command"):
            execute(run, tmp_path)
        again = execute(run, tmp_path)
        assert again is not None and before is not None
        assert [row["weights"] for row in again] == [row["weights"] for row in before]


def test_a_raised_version_of_an_evaluation_stops_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(curve=Curve((2, 4, 6), until=Plateau("weights", 0.0, patience=3)))
    execute(run, tmp_path)
    before = len([path for path in (tmp_path / ".models").iterdir() if path.is_dir()])
    monkeypatch.setattr(Weights, "version", 2, raising=False)
    execute(run, tmp_path)
    assert len([path for path in (tmp_path / ".models").iterdir() if path.is_dir()]) == before + 1


def test_an_evaluation_of_curve_and_run_is_measured_once(tmp_path: Path) -> None:
    rows = execute(make_run(curve=Curve((10,), (Weights(),))), tmp_path)
    assert rows is not None and [row["step"] for row in rows] == [10, 40]


def test_a_lost_trial_is_done_again(tmp_path: Path) -> None:
    run = make_run(grid=GRID)
    spec = JobSpec(StaticRuns((run,)), "laptop", None, tmp_path)
    run_all(spec, [run], ExecutorConfig(jobs=1), lambda run: None)
    (lost, *_) = first_trials([run])
    shutil.rmtree(tmp_path / run_id(lost))
    run_all(spec, [run], ExecutorConfig(jobs=1), lambda run: None)
    assert grid_table([run], rows_reader(tmp_path)) is not None


def test_fields_of_a_curves_evaluation_may_not_hide_tags() -> None:
    with pytest.raises(UserError, match="has a field 'parts', a column of the run"):
        Run("01_fake", Coin(), MODEL, TRAIN, (), tags={"parts": "mine"}, curve=Curve((10,), (Weights(2),)))
