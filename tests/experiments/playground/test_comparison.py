"""Architectures are made alike, chosen and compared as planted tables say."""

from dataclasses import replace

import numpy as np
import pandas
import pytest

from experiments.harness.playground import comparison
from experiments.harness.reporting.stats import holm_correction
from lm.config import ModelConfig
from lm.model_size import num_parameters
from synth import UserError
from synth.tasks.biod import BioD

TASK = BioD(people=32)
BASE = ModelConfig.llama(2, 4, 64, tie_embeddings=True)
SCORE = comparison.ScoreColumn("depth", "Asked", "correct", "chance", filters=(("difficulty", "all"),))


@pytest.mark.parametrize("changes", [{}, {"positions": "none"}, {"mlp": "gelu"}, {"norm": "layer", "bias": True},
                                     {"tie_embeddings": False}, {"n_layers": 3}])  # fmt: skip
def test_architectures_are_made_as_large_as_the_base(changes) -> None:
    model = comparison.match_parameters(BASE, changes, TASK)
    assert abs(num_parameters(model, TASK) / num_parameters(BASE, TASK) - 1) <= comparison.SIZE_TOLERANCE
    assert all(getattr(model, name) == value for name, value in changes.items())
    if changes in ({}, {"positions": "none"}):
        assert model.d_ff is None  # nothing to mend


def test_without_an_mlp_the_width_is_chosen() -> None:
    base = ModelConfig.llama(1, 4, 512)
    model = comparison.match_parameters(base, {"mlp": "none"}, TASK)
    assert (
        abs(num_parameters(model, TASK) / num_parameters(base, TASK) - 1) <= comparison.SIZE_TOLERANCE
        and model.d_model > 512
    )
    with pytest.raises(UserError, match="no d_model of mlp=none has the base's"):  # heads come four at a time
        comparison.match_parameters(replace(base, d_model=36), {"mlp": "none"}, TASK)


def test_what_cannot_be_made_alike_is_refused_with_the_nearest_size() -> None:
    with pytest.raises(UserError, match=r"n_layers=40 has the base's .* the nearest, 1, has [\d,]+; change"):
        comparison.match_parameters(BASE, {"n_layers": 40}, TASK)


def rows(architecture: str, at: dict[float, list[float]], **columns) -> list[dict]:
    """A row for every learning rate and seed."""
    common = {"task": "depo", "evaluation": "Asked", "difficulty": "all", "chance": 0.1, "architecture": architecture}
    return [
        {**common, "lr": lr, "seed_init": seed, "run": f"{architecture}{lr}{seed}", "correct": value, **columns}
        for lr, values in at.items()
        for seed, value in enumerate(values)
    ]


def test_each_is_judged_at_its_best_rate_and_divergence_counts_as_the_floor() -> None:
    lost = {"diverged": True, "correct": np.nan, "difficulty": np.nan, "chance": np.nan}
    table = pandas.DataFrame([
        *rows("a", {1e-3: [0.5, 0.6], 1e-2: [0.9, 0.3]}, diverged=False),
        *rows("b", {1e-3: [0.2, 0.2]}, diverged=False),
        *rows("b", {1e-2: [0.0, 0.0]}, **lost),
        *rows("b", {3e-2: [0.9]}, diverged=False),
        *rows("b", {3e-2: [0.0, 0.0]}, **lost)[1:],
    ])  # fmt: skip
    found = SCORE.select(table)
    assert set(found.loc[found["diverged"], "score"]) == {0.1}
    best = comparison.at_best_lr(found, ["architecture"])
    assert set(best.loc[best["architecture"] == "a", "lr"]) == {1e-2}
    # 0.9 of the seed that did not diverge is not the mean of that rate
    assert best.loc[best["architecture"] == "b", "score"].tolist() == [0.9, 0.1]
    assert comparison.diverged_note(table) == "; 3 of 10 runs diverged and count as the floor"
    assert comparison.diverged_note(table.drop(columns="diverged")) == ""


def test_a_diverged_run_is_at_the_floor_of_every_part() -> None:
    parts = [rows("a", {1e-3: [0.9]}, difficulty=k, chance=1 / k)[0] for k in (2, 4)]
    lost = rows("b", {1e-3: [np.nan]}, difficulty=np.nan, chance=np.nan, diverged=True)
    score = comparison.ScoreColumn("depth", "Asked", "correct", "chance", part_column="difficulty")
    found = score.select(pandas.DataFrame([*parts, *lost]))
    b = found[found["architecture"] == "b"]
    assert b["score"].tolist() == [0.5, 0.25] and b["part"].tolist() == found["part"].tolist()[:2]


def test_differences_are_taken_within_seed_and_task() -> None:
    noise = [0.0, 0.3, 0.6, 0.1, 0.2]
    table = pandas.DataFrame([
        *rows("a", {1e-3: [0.3 + x for x in noise]}),
        *rows("b", {1e-3: [0.1 + x for x in noise]}),
        *rows("c", {1e-3: noise}),
        *rows("a", {1e-3: [1.0]}, task="mano"),  # b has not got this task yet
    ])  # fmt: skip
    found = comparison.paired_gain(comparison.select_scores(table, {"depo": SCORE, "mano": SCORE}), "a", "b")
    assert found is not None and (found.mean, found.n) == (pytest.approx(0.2), 5) and found.high - found.low < 1e-9
    assert comparison.p_values_against(SCORE.select(table[table["task"] == "depo"]), "b") == {"a": 0.125, "c": 0.125}
    assert comparison.paired_gain(SCORE.select(table), "a", "nobody") is None
    seeds = comparison.summarize_seeds(pandas.Series([0.1, 0.95, 0.96]), 0.9)
    assert seeds.median == 0.95 and seeds.solved_share == pytest.approx(2 / 3) and seeds.mean.n == 3


def test_holms_correction() -> None:
    assert holm_correction({"x": 0.03, "y": 0.01, "z": 0.04}) == {"x": 0.06, "y": 0.03, "z": 0.06}
    assert holm_correction({"x": 0.7, "y": 0.9}) == {"x": 1.0, "y": 1.0} and holm_correction({}) == {}


def test_where_every_training_diverged_the_floor_is_the_one_that_is_known() -> None:
    table = pandas.DataFrame({"evaluation": ["Log", "Log"], "diverged": [True, True], "seed_init": [0, 1]})
    assert list(comparison.ScoreColumn("jumps", "Log", "unstable", 1.0).select(table)["score"]) == [1.0, 1.0]
    assert list(comparison.ScoreColumn("depth", "Log", "correct", "chance").select(table)["score"]) == [0.0, 0.0]
    assert not len(
        comparison.ScoreColumn("by hops", "Log", "correct", "chance", part_column="difficulty").select(table)
    )
