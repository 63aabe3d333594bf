"""Several trainings in one run, each done once whatever needs it, and none lost to a kill."""

import multiprocessing
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_experiment import Coin, Score

from experiments.harness import Run, Stage, run_id
from experiments.harness.atomic_io import exclusive_lock, read_json
from experiments.harness.execution.execute import execute
from experiments.harness.execution.model_cache import cache_key, model_dir
from experiments.harness.execution.trainings import check_stages
from experiments.harness.planning.cost import estimate_costs
from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.pretrained import load
from lm.training.loop import train
from lm.transforms.lora import add_lora, merge_lora
from synth import UserError
from tests.synth.test_mixture import BIOS, MIXED, QUESTIONS

TRAIN = TrainConfig(20, batch_size=4, seq_len=90, lr=1e-2)
THEN = (Stage(QUESTIONS, replace(TRAIN, steps=10)), Stage(QUESTIONS, replace(TRAIN, steps=15), 2, 3))
RUN = Run("30_fake", MIXED, ModelConfig(1, 2, 8, 128), TRAIN, (), later_stages=THEN)


@dataclass(frozen=True)
class Weight:
    """One number of the model."""

    column: int = 0

    def measure(self, model: Decoder, *_: Any) -> dict[str, float]:
        return {"weight": model.embed.weight[0, self.column].item()}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of each training that is really done."""
    done: list[int] = []

    def counting(model: Any, task: Any, config: TrainConfig, **settings: Any) -> Any:
        done.append(config.steps)
        return train(model, task, config, **settings)

    monkeypatch.setattr("lm.training.loop.train", counting)
    return done


def model_of(run: Run, root: Path) -> Decoder:
    return load(root / run_id(run) / "model")


def same(one: Decoder, two: Decoder) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_each_training_goes_on_with_the_model_before(tmp_path: Path, steps: list[int]) -> None:
    told: list[int] = []
    (row,) = execute(RUN, tmp_path, on_step=told.append)  # type: ignore[misc]
    assert steps == [20, 10, 15] and told == sorted(told) and told[-1] == row["steps"] == RUN.steps == 45
    model = build(RUN.model, MIXED.vocab().size, 0)  # type: ignore[arg-type]
    histories = [train(model, MIXED, TRAIN, 0), train(model, QUESTIONS, THEN[0].train, 0)]
    adapted = add_lora(model, 2, 3)
    histories.append(train(adapted, QUESTIONS, THEN[1].train, 0))
    kept = model_of(RUN, tmp_path)
    assert same(merge_lora(adapted), kept) and not kept.config.tie_embeddings
    assert row["tokens"] == sum(history.tokens for history in histories)
    assert row["train_loss"] == histories[2][-1]["loss"]
    biographies = histories[0].exposures[: BIOS.people]  # type: ignore[index]
    assert (row["exposures_min"], row["exposures_max"]) == (biographies.min(), biographies.max())
    history = read_json(tmp_path / run_id(RUN) / "history.json")
    assert [(line["stage"], line["step"]) for line in history] == [(0, 10), (0, 20), (1, 30), (2, 40), (2, 45)]
    assert row["seconds"] >= round(history[-1]["seconds"], 3) and history[-1]["seconds"] > history[1]["seconds"] > 0


def test_nothing_is_trained_twice(tmp_path: Path, steps: list[int]) -> None:
    one = replace(RUN, evaluations=(Weight(),))
    (row,) = execute(one, tmp_path)  # type: ignore[misc]
    del steps[:]
    other = replace(one, experiment="31_fake", evaluations=(Weight(1),), tags={"asked": "another"})
    told: list[int] = []
    (again,) = execute(other, tmp_path, on_step=told.append)  # type: ignore[misc]
    assert steps == [] and told == [45] and again["weight"] != row["weight"]
    trained = read_json(tmp_path / run_id(one) / "history.json")[-1]["seconds"]
    assert again["seconds"] >= round(trained, 3) > 0
    assert {k: again[k] for k in ("tokens", "train_loss")} == {k: row[k] for k in ("tokens", "train_loss")}
    execute(replace(one, later_stages=(Stage(QUESTIONS, replace(TRAIN, steps=5)),)), tmp_path)
    assert steps == [5], "the first training is there"
    execute(replace(one, later_stages=()), tmp_path)
    assert steps == [5] and same(
        model_of(replace(one, later_stages=()), tmp_path), load(model_dir(RUN, tmp_path, 1) / "model")
    )
    files = [tmp_path / run_id(one) / "model", model_dir(one, tmp_path, 3) / "model"]
    assert len({os.stat(folder / "model.safetensors").st_ino for folder in files}) == 1, "no second copy"


def test_what_decides_the_weights_decides_the_key() -> None:
    others = [
        replace(RUN, model=replace(RUN.model, d_model=16)),  # type: ignore[type-var]
        replace(RUN, train=replace(TRAIN, lr=2e-2)),
        replace(RUN, task=BIOS),
        replace(RUN, seeds=replace(RUN.seeds, order=1)),
        replace(RUN, later_stages=THEN[::-1]),
    ]
    assert len({cache_key(run, 3) for run in [RUN, *others]}) == 6
    assert len({run_id(run) for run in [RUN, *others]}) == 6
    assert cache_key(RUN, 1) == cache_key(
        replace(RUN, later_stages=(), experiment="31_fake", evaluations=(Weight(),)), 1
    )


@pytest.mark.parametrize("name", ["model/model.safetensors", "model/config.json", "history.json"])
def test_a_damaged_model_is_trained_again(
    name: str, tmp_path: Path, steps: list[int], capsys: pytest.CaptureFixture
) -> None:
    run = replace(RUN, later_stages=THEN[:1])
    execute(run, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / ".models").glob("*/model/model.safetensors")}
    damaged = model_dir(run, tmp_path, 2) / name
    os.truncate(damaged, damaged.stat().st_size // 2)
    del steps[:]
    execute(replace(run, experiment="31_fake"), tmp_path)
    assert steps == [10] and "trained again" in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_training_that_another_process_is_at(tmp_path: Path, steps: list[int]) -> None:
    told: list[int] = []
    with exclusive_lock(tmp_path / ".locks" / f"model-{cache_key(RUN, 2)}", wait=True):
        assert execute(RUN, tmp_path, wait=False, on_step=told.append) is None
    assert steps == [] and told == [], "steps that are told twice would spoil the bar"
    assert execute(RUN, tmp_path, wait=False) is not None


def test_trainings_that_do_not_fit_are_refused_before_the_first(
    tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="mixture has a vocabulary of .* and coin another"):
        execute(replace(RUN, later_stages=(Stage(Coin(), TRAIN),)), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match="adapters need peft"):
        execute(RUN, tmp_path)
    with pytest.raises(UserError, match="goes on from no training"):
        replace(RUN, train=None)
    with pytest.raises(UserError, match="lora_rank=0, lora_embed_rank=3"):
        Stage(QUESTIONS, TRAIN, 0, 3)
    assert steps == []


LONG = replace(RUN, train=replace(TRAIN, steps=120), later_stages=tuple(
    replace(stage, train=replace(stage.train, steps=120)) for stage in THEN))  # fmt: skip


def victim(root: Path) -> None:
    torch.set_num_threads(1)
    execute(LONG, root)


def test_kills_within_and_between_trainings_lose_none(tmp_path: Path) -> None:
    """Killed within the first training, when it is done, and within the second and the third."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["lm.training.loop", "lm.hf.modeling", "peft", __name__])
    root, keys = tmp_path / "killed", [cache_key(LONG, stages) for stages in (1, 2, 3)]
    first, stopped = model_dir(LONG, root, 1), 0
    for sign in [f"{keys[0]}.partial/checkpoint/step-50", keys[0], f"{keys[1]}.partial/checkpoint/step-50",
                 f"{keys[2]}.partial/checkpoint/step-50"]:  # fmt: skip
        process = processes.Process(target=victim, args=(root,))
        process.start()
        while not (root / ".models" / sign).exists() and process.is_alive():
            time.sleep(0.002)
        process.kill()
        process.join()
        stopped += process.exitcode != 0
        if sign == keys[0]:
            made = (first / "model" / "model.safetensors").stat().st_mtime_ns
    assert stopped >= 3, "the trainings were over too soon; lengthen them"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows, whole = execute(LONG, root), execute(LONG, tmp_path / "whole")
    torch.set_num_threads(threads)
    assert (first / "model" / "model.safetensors").stat().st_mtime_ns == made, "a finished training was repeated"
    assert same(model_of(LONG, root), model_of(LONG, tmp_path / "whole"))
    assert all(rows[0][key] == whole[0][key] for key in ("tokens", "train_loss", "exposures", "steps"))  # type: ignore[index]
    assert sorted(path.name for path in (root / ".models").iterdir()) == sorted(keys)


def test_a_dry_run_counts_every_training_once(tmp_path: Path) -> None:
    pretrained = replace(RUN, train=replace(TRAIN, steps=2000), later_stages=(), evaluations=(Score(),))
    tuned = [replace(pretrained, later_stages=(Stage(QUESTIONS, replace(TRAIN, steps=n)),)) for n in (10, 20)]
    first, *others = estimate_costs([pretrained, *tuned], tmp_path)
    assert [cost.steps for cost in (first, *others)] == [2000, 2010, 2020]
    assert others[0].flops == pytest.approx(first.flops * 2010 / 2000) and first.total_flops == first.flops
    assert others[1].total_flops == pytest.approx(first.flops * 20 / 2000)
    assert (
        others[1].remaining_seconds == pytest.approx(first.remaining_seconds * 20 / 2000)
        and others[1].seconds > first.remaining_seconds
    )
    execute(replace(RUN, later_stages=()), tmp_path)
    assert estimate_costs([RUN], tmp_path)[0].remaining_seconds == pytest.approx(
        estimate_costs([RUN], tmp_path / "other")[0].remaining_seconds * 25 / 45
    )


def test_the_recipes_of_the_docs_fit_together() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "add_an_experiment.md").read_text()
    found: dict[str, Any] = {"model": RUN.model, "measures": ()}
    exec(page.split("```python\n")[2].split("```")[0], found)
    recipes = [value for value in found.values() if isinstance(value, Run)]
    assert len(recipes) == len({run_id(run) for run in recipes}) == 5
    for run in recipes:
        check_stages(run)
    assert len({cache_key(run, 1) for run in recipes}) == 3, "biographies are read once for three recipes"
