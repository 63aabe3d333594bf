"""A run's id stands for everything that decides its result."""

from dataclasses import fields, is_dataclass, replace

import pytest
from fake_experiment import Coin, Score

from experiments.harness import Curve, Grid, Run, Seeds, Stage, run_id, train_grid, with_seeds
from experiments.harness.run import configuration_id, seed_major_order
from lm.config import ModelConfig, TrainConfig
from synth import UserError

RUN = Run("01_fake", Coin(), ModelConfig(), TrainConfig(steps=10), (Score(),), tags={"coin": "fair"})
OTHER = {
    "positions": "none", "norm": "rms", "mlp": "swiglu", "packing": "whole", "schedule": "cosine",
    "precision": "bf16", "compile": True, "betas": (0.9, 0.99), "d_ff": 96, "rotary_fraction": 0.5,
    "d_model": 128, "n_heads": 2, "grad_accum_steps": 2, "experiment": "02_fake", "tags": {"coin": "unfair"},
    "mixer": "gla", "canon": "AC", "rotary_heads": 0.5, "evaluations": (), "ones": 0.25, "objective": "masked",
    "later_stages": (Stage(Coin(), TrainConfig(steps=1)),), "curve": Curve((1,)),
    "grid": Grid(train_grid(TrainConfig(steps=10), lr=(1e-3, 2e-3))),
}  # fmt: skip


def variants(value):
    """The same dataclass with one field changed, for every field, however deep."""
    for field in fields(value):
        old = getattr(value, field.name)
        if is_dataclass(old):
            yield from (replace(value, **{field.name: new}) for new in variants(old))
        elif field.name in OTHER:
            yield replace(value, **{field.name: OTHER[field.name]})
        elif isinstance(old, bool):
            yield replace(value, **{field.name: not old})
        else:
            yield replace(value, **{field.name: old + 1})


def test_the_id_changes_with_every_field():
    found = list(variants(RUN))
    assert len(found) > 30
    ids = [run_id(run) for run in [RUN, *found]]
    assert len(set(ids)) == len(ids)


def test_the_id_covers_evaluations_and_the_version_of_the_task(monkeypatch):
    before = run_id(RUN)
    assert run_id(replace(RUN, evaluations=(Score(11),))) != before
    assert run_id(replace(RUN)) == before
    monkeypatch.setattr(Coin, "version", 2)
    assert run_id(RUN) != before


def test_the_label_leaves_empty_tags_out():
    assert replace(RUN, tags={"coin": "fair", "root": "", "cut": 0}).label == "coin fair, cut 0"


def test_unknown_settings_raise():
    with pytest.raises(TypeError):
        Run("01", Coin(), None, None, seed=3)
    with pytest.raises(TypeError):
        TrainConfig(steps=1, learning_rate=0.1)
    with pytest.raises(UserError, match="'device', a column"):
        Run("01", Coin(), None, None, tags={"device": "x"})
    with pytest.raises(UserError, match="no model"):
        Run("01", Coin(), None, TrainConfig(steps=1))


def test_seed_0_of_every_configuration_comes_first():
    other = replace(RUN, task=Coin(0.9))
    runs = with_seeds([RUN, other], 3)
    assert [run.seeds.init for run in runs] == [0, 0, 1, 1, 2, 2]
    by_configuration = sorted(runs, key=lambda run: run.task.ones)
    assert [run.seeds.init for run in seed_major_order(by_configuration + [RUN])] == [0, 0, 1, 1, 2, 2]
    assert {configuration_id(run) for run in runs} == {configuration_id(RUN), configuration_id(other)}


def test_with_seeds_changes_the_number_of_seeds_of_each_configuration():
    assert len(with_seeds(with_seeds([RUN], 5), 2)) == 2
    assert with_seeds([RUN], 2)[1].seeds == Seeds(1, 1, 1)
    with pytest.raises(UserError, match="at least 1"):
        with_seeds([RUN], 0)
