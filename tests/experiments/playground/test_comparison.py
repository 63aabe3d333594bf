"""Architectures are made alike, chosen and compared as planted tables say."""

from dataclasses import replace
from math import comb

import numpy as np
import pandas
import pytest

from experiments.harness.playground import comparison, scorecard
from experiments.harness.playground.gains import GainClaims, count_gain, least_of, list_skills, solved_gain
from experiments.harness.playground.task_suite import describe_training
from experiments.harness.reporting import figures
from experiments.harness.statistics.estimates import Interval, mean_of, solved_of
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
    assert found is not None and (found.mean, found.n) == (pytest.approx(0.2), 5)
    assert found.interval().high - found.interval().low < 1e-9
    assert comparison.paired_gain(SCORE.select(table), "a", "nobody") is None


def test_a_difference_ends_where_differences_of_the_score_end() -> None:
    table = pandas.DataFrame([*rows("a", {1e-3: [0.0, 1.0, 0.9]}), *rows("b", {1e-3: [0.9, 0.0, 0.0]})])
    share = comparison.paired_gain(SCORE.select(table), "a", "b")
    bits = comparison.paired_gain(SCORE.select(table), "a", "b", limits=(-np.inf, np.inf))
    assert share is not None and (share.interval().low, share.interval().high) == (-1.0, 1.0)
    assert bits is not None and bits.interval().low < -1 and bits.interval().high > 1


def test_a_score_may_be_divided_by_a_column_and_is_not_clamped() -> None:
    score = comparison.ScoreColumn("capacity", "Asked", "correct", limits=(-np.inf, np.inf), divisor="parameters")
    table = pandas.DataFrame(rows("a", {1e-3: [-50.0, 100.0]}, parameters=50))
    assert score.select(table)["score"].tolist() == [-1.0, 2.0]


def test_the_least_gain_is_the_one_that_is_shown_worst() -> None:
    near = mean_of(pandas.Series([0.1, 0.1, 0.1]))
    wide = mean_of(pandas.Series([0.0, 1.0, 0.5]))
    assert least_of({"near": near, "wide": wide}) == ("wide", wide)
    assert least_of({"near": near, "lost": None, "wide": wide}) == ("lost", None)
    one, two = mean_of(pandas.Series([0.3])), mean_of(pandas.Series([0.2]))
    assert least_of({"one": one, "two": two}) == ("two", two)  # a single seed has no limits


def test_gains_are_claimed_on_tests_that_are_new_alone() -> None:
    common = {"evaluation": "Answers", "difficulty": "all", "scale": "laptop"}
    table = pandas.DataFrame([
        *rows("a", {1e-3: [0.8, 0.81, 0.82]}, task="mano", **common),
        *rows("b", {1e-3: [0.1, 0.12, 0.11]}, task="mano", **common),
        *rows("a", {1e-3: [0.6, 0.61, 0.62]}, **common),
        *rows("b", {1e-3: [0.1, 0.12, 0.11]}, **common),
    ])  # fmt: skip
    paper = {"depo": {"a": 0.9, "b": 0.4}, "mano": {"a": 1.0}}
    untuned = GainClaims(table, ("depo", "mano"), paper)
    untuned.add("1", "depo", "a", "b", "above 0.3", above=0.3)
    assert untuned.made[0].verdict == "not testable" and untuned.made[0].without_gate == "reproduced"
    assert untuned.made[0].gate == "learning rates tried for each architecture 1, needs at least 3"
    gains = GainClaims(table.assign(grid_size=3), ("depo", "mano"), paper)
    assert gains.held_out(("depo", "mano", "cfg")) == ["depo"]
    assert gains.published(["depo"], "a", "b") == 0.5 and gains.published(["depo", "mano"], "a", "b") is None
    for task in ("depo", "mano"):
        gains.add("1", task, "a", "b", "above 0.3", above=0.3)
    assert [claim.verdict for claim in gains.made] == ["reproduced", "not testable"]
    assert "seen in training" in gains.made[1].gate and "equal training" in gains.made[0].note
    gains.add_mean("2", ["depo"], "a", ("b", "nobody"), "above 0", above=0.0)
    assert gains.made[-1].verdict == "not run"  # a rival is missing


def test_a_gain_is_gated_by_the_rates_tried_on_its_own_tasks() -> None:
    common = {"evaluation": "Answers", "difficulty": "all", "scale": "gpu"}
    table = pandas.DataFrame([
        *rows("a", {lr: [0.8, 0.81, 0.82] for lr in (1e-3, 2e-3, 3e-3)}, **common),
        *rows("b", {lr: [0.1, 0.12, 0.11] for lr in (1e-3, 2e-3, 3e-3)}, **common),
        *rows("a", {1e-3: [0.8, 0.81, 0.82]}, task="mano", **common, grid_size=3),
        *rows("b", {1e-3: [0.1, 0.12, 0.11]}, task="mano", **common, grid_size=2),
    ])  # fmt: skip
    gains = GainClaims(table, ("depo", "mano"), {"depo": {}, "mano": {}})
    for task in ("depo", "mano"):
        gains.add("1", task, "a", "b", "above 0.3", above=0.3)
    gains.add_mean("2", ["depo", "mano"], "a", ("b",), "above 0.3", above=0.3)
    gains.add_least("3", "both", [("depo", "a", "b"), ("mano", "a", "b")], "above 0.3", above=0.3)
    assert [claim.verdict for claim in gains.made] == ["reproduced", *["not testable"] * 3]
    assert all(c.gate == "learning rates tried for each architecture 2, needs at least 3" for c in gains.made[1:])


def test_counts_that_differ_equally_have_no_limits() -> None:
    a, b = pandas.Series([3.0] * 8), pandas.Series([1.0] * 8)
    equal, other = count_gain(a, b), count_gain(a, b.where(b.index > 0, 0.0))
    assert equal is not None and equal.interval() == Interval(2.0, -np.inf, np.inf, 8)
    assert other is not None and (other.interval().low, other.interval().high) == (2.0, 3.0)
    assert count_gain(a, b.set_axis(range(10, 18))) is None


def test_shares_of_seeds_are_compared_by_their_exact_limits() -> None:
    a, b = pandas.Series([1.0] * 6 + [np.nan]), pandas.Series([0.0] * 6, index=[*range(5), 9])
    found = solved_gain(a, b)
    assert found is not None and (found.mean, found.n) == (1.0, 5)  # seeds 0 to 4 have both
    one, none = solved_of(a.iloc[:5]), solved_of(b.iloc[:5])
    assert one is not None and none is not None
    low = one.interval(0.95).low - none.interval(0.95).high
    assert (found.interval().low, found.interval().high) == (pytest.approx(low), 1.0)
    assert solved_gain(a, b.set_axis(range(20, 26))) is None


@pytest.mark.parametrize("n", [2, 3, 6])
def test_compared_shares_err_in_at_most_5_percent(n: int) -> None:
    """Exact, over all counts, where the two shares are equal: how often the lower limit is above 0."""
    flags = [pandas.Series([1.0] * k + [0.0] * (n - k)) for k in range(n + 1)]
    above = np.array([[solved_gain(a, b).interval().low > 0 for b in flags] for a in flags])  # type: ignore[union-attr]
    for p in np.linspace(0.02, 0.98, 25):
        chances = np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])
        assert chances @ above @ chances <= 0.05
    assert above.any() == (n == 6)


def test_a_caption_says_which_documents_were_not_fresh() -> None:
    def said(scale: str, *tasks: str) -> str:
        return describe_training(pandas.DataFrame({"task": tasks, "scale": scale}))

    assert said("gpu", "depo", "mano") == "trained alike on fresh documents"
    seen = "(arithmetic: every test expression was seen in training"
    assert said("laptop", "mano") == f"trained alike {seen})"
    assert said("laptop", "mano", "capacity", "cfg") == (
        f"trained alike on fresh documents {seen}; capacity: the same people at every exposure)"
    )


def test_skills_are_listed_as_words() -> None:
    table = pandas.DataFrame({"scale": ["gpu"]})
    assert list_skills(("depo", "brevo", "cfg"), table) == "depth, breadth and structure"
    assert list_skills(("depo",), table) == "depth" and list_skills((), table) == "no task"


def test_the_papers_scores_are_those_of_its_largest_tasks() -> None:
    found = comparison.paper_scores("Results 2 and 3")
    assert found["depo"]["rotary + Canon"] == pytest.approx((0.97 + 1.0) / 2)  # eight and four steps
    assert (found["brevo"]["rotary"], found["mano"]["NoPE"], found["cfg"]["H-ALiBi"]) == (0.275, 0.073, 0.052)
    ablations = comparison.paper_scores("Figure 27")
    assert "NoPE, ABCD" in ablations["cfg"] and "NoPE, ABCD" not in ablations["mano"]


def test_a_difference_is_written_with_its_interval() -> None:
    assert scorecard.format_difference(Interval(-0.123, -0.2, 0.05, 3)) == "\u22120.12 [\u22120.20, 0.05]"
    assert scorecard.format_difference(Interval(-0.001, -0.004, 0.002, 3)) == "+0.00 [0.00, 0.00]"
    assert scorecard.format_difference(Interval(0.5, np.nan, np.nan, 1)) == "+0.50"


def test_a_row_that_was_not_run_says_so() -> None:
    table = pandas.DataFrame([*rows("a", {1e-3: [0.8, 0.9]}), *rows("b", {1e-3: [0.1, 0.2]})])
    with figures.style():
        _, (axes,) = figures.subplots()
        scorecard.plot_task(axes, SCORE.select(table), SCORE, ["a", "b", "c"], reference="b")
    said = [text.get_text() for text in axes.texts]
    assert said[1:] == ["minus b:", "not run"] and said[0].startswith("+0.70 [")


def test_where_every_training_diverged_the_floor_is_the_one_that_is_known() -> None:
    table = pandas.DataFrame({"evaluation": ["Log", "Log"], "diverged": [True, True], "seed_init": [0, 1]})
    assert list(comparison.ScoreColumn("jumps", "Log", "unstable", 1.0).select(table)["score"]) == [1.0, 1.0]
    assert list(comparison.ScoreColumn("depth", "Log", "correct", "chance").select(table)["score"]) == [0.0, 0.0]
    assert not len(
        comparison.ScoreColumn("by hops", "Log", "correct", "chance", part_column="difficulty").select(table)
    )
