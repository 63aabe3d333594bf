"""Runs that are trained together: which, in what order, and that nobody sees a difference."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_experiment
import pytest
from fake_experiment import Coin, Score

from experiments.harness import Run, Stage, run_id, with_seeds
from experiments.harness.atomic_io import exclusive_lock, read_json
from experiments.harness.execution.execute import execute, read_rows
from experiments.harness.execution.grouping import group_runs
from experiments.harness.execution.model_cache import cache_key, model_dir
from experiments.harness.execution.trainings import train_group
from experiments.harness.executors import ExecutorConfig, JobSpec, run_all
from experiments.harness.executors.worker import StepDelta, execute_group
from experiments.harness.experiment import Experiment
from lm.config import ModelConfig, TrainConfig
from lm.ensemble.train_many import train_many
from synth import UserError
from tests.experiments.execution.test_trainings import QUESTIONS, TRAIN, Weight

FAKE = Path(fake_experiment.__file__)
MODEL = ModelConfig(n_layers=1, n_heads=2, d_model=8, max_seq_len=16)
RUN = Run("01_fake", Coin(), MODEL, TrainConfig(steps=60, batch_size=2, seq_len=16), (Score(), Weight()))
RATES = [replace(RUN, train=replace(RUN.train, lr=lr), tags={"lr": lr}) for lr in (1e-3, 3e-3)]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that are really trained together."""
    sizes: list[int] = []

    def counting(models: Any, *rest: Any, **settings: Any) -> Any:
        sizes.append(len(models))
        return train_many(models, *rest, **settings)

    monkeypatch.setattr("lm.ensemble.train_many.train_many", counting)
    return sizes


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    path = tmp_path / "experiments" / "01_fake.py"
    path.parent.mkdir()
    shutil.copy(FAKE, path)
    monkeypatch.delitem(sys.modules, "experiments.01_fake", raising=False)
    return Experiment(path)


def carried_out(runs: list[Run], root: Path, told: list[int]) -> list[bool]:
    return [done for _, done in execute_group(runs, root, False, lambda run: StepDelta(told.append))]


def test_what_goes_together(tmp_path: Path) -> None:
    runs = with_seeds(RATES, 5)
    assert [len(group) for group in group_runs(runs, tmp_path, 2)] == [5, 5]
    assert [len(group) for group in group_runs(with_seeds(RATES, 10), tmp_path, 1)] == [10, 10]
    assert [len(group) for group in group_runs(runs, tmp_path, 16)] == [1] * 10
    others = [
        replace(RUN, task=Coin(0.9)),  # other data, the same vocabulary
        replace(RUN, model=replace(MODEL, d_model=16)),
        replace(RUN, train=replace(RUN.train, batch_size=4)),
        replace(RUN, train=replace(RUN.train, grad_accum_steps=2)),
        replace(RUN, train=None),
        replace(RUN, model=None, train=None),
        replace(RUN, model=replace(MODEL, positions="relative")),
        replace(RUN, model=replace(MODEL, d_model=64), train=replace(RUN.train, batch_size=64)),
    ]
    assert [len(group) for group in group_runs([RUN, *others], tmp_path, 1)] == [2] + [1] * 7
    execute(RUN, tmp_path)
    assert [len(group) for group in group_runs([RUN, *RATES[1:]], tmp_path, 1)] == [1, 1]


def test_grouped_runs_have_the_rows_of_single_ones(tmp_path: Path, groups: list[int]) -> None:
    runs, told = with_seeds(RATES, 2), list[int]()
    assert carried_out(runs, tmp_path / "many", told) == [True] * 4
    assert groups == [4] and sum(told) == 4 * 60
    for run in runs:
        many, single = read_rows(run, tmp_path / "many"), execute(run, tmp_path / "single")
        for one, other in zip(many, single, strict=True):  # type: ignore[arg-type]
            assert {**one, "seconds": 0} == {**other, "seconds": 0}
        assert read_json(model_dir(run, tmp_path / "many", 1) / "training.json")["together"] == 4
    again: list[int] = []
    assert carried_out(runs, tmp_path / "many", again) == [True] * 4 and groups == [4, 1, 1, 1, 1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_command_groups_by_itself(experiment: Experiment, tmp_path: Path, jobs: int) -> None:
    done: list[str] = []
    runs = experiment.runs("laptop")
    spec = JobSpec(experiment, "laptop", None, tmp_path / "runs")
    run_all(spec, runs, ExecutorConfig(jobs=jobs), lambda run: done.append(run_id(run)))
    assert sorted(done) == sorted(run_id(run) for run in runs)
    assert not list((tmp_path / "runs" / ".models").glob("*.partial"))
    records = [read_json(model_dir(run, tmp_path / "runs", 1) / "training.json") for run in runs]
    assert {record["together"] for record in records} == {6 // jobs}


def test_only_the_first_stage_is_trained_together(tmp_path: Path, groups: list[int]) -> None:
    first = replace(RUN, task=QUESTIONS, model=replace(MODEL, max_seq_len=128), train=TRAIN, evaluations=())
    then = replace(first, later_stages=(Stage(QUESTIONS, replace(TRAIN, steps=10)),))
    assert carried_out([first, then, *with_seeds([then], 2)], tmp_path, []) == [True] * 4
    assert groups == [2], "the same first training once"
    assert model_dir(then, tmp_path, 2).exists() and read_rows(then, tmp_path)[0]["steps"] == 30


def test_models_that_another_process_is_at_are_left_to_it(tmp_path: Path, groups: list[int]) -> None:
    runs, told = with_seeds(RATES, 2), list[int]()
    with exclusive_lock(tmp_path / ".locks" / f"model-{cache_key(runs[1], 1)}", wait=True):
        assert carried_out(runs, tmp_path, told) == [True, False, True, True]
    assert groups == [3] and sum(told) == 3 * 60


def test_one_that_diverges_leaves_the_others_trained(tmp_path: Path) -> None:
    mad = replace(RUN, train=replace(RUN.train, lr=1e30, max_grad_norm=0.0))
    runs = [*with_seeds(RATES, 2), mad]
    train_group(runs, tmp_path, [lambda step: None] * 5)
    assert [(model_dir(run, tmp_path, 1) / "model").exists() for run in runs] == [True] * 4 + [False]
    assert execute(mad, tmp_path)[0]["diverged"] and "diverged" not in execute(runs[0], tmp_path)[0]


def test_a_group_that_is_killed_goes_on(tmp_path: Path, groups: list[int]) -> None:
    runs = with_seeds([replace(RUN, train=replace(RUN.train, steps=120))], 3)

    def kill(step: int) -> None:
        if step >= 70:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train_group(runs, tmp_path, [kill, print, print])
    assert len(list((tmp_path / ".models").glob("*.partial/checkpoint/step-50"))) == 3
    told: list[int] = []
    assert carried_out(runs, tmp_path, told) == [True] * 3 and groups == [3, 3]
    assert told[0] == 60, "the first row after step 50"


def test_a_group_that_cannot_be_is_done_one_by_one(tmp_path: Path) -> None:
    odd = [RUN, replace(RUN, train=replace(RUN.train, batch_size=4))]
    assert carried_out(odd, tmp_path, []) == [True, True]
    with pytest.raises(UserError, match="goes on from no training"):
        replace(RUN, train=None, later_stages=(Stage(Coin(), TRAIN),))
