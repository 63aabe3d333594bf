"""Verdicts, gates and looks with planted answers."""

import math

import numpy as np
import pandas
import pytest

from experiments.harness import Claim, ClaimList, Gate, mean_of, solved_of
from experiments.harness.reporting.claims import decide_verdict
from experiments.harness.reporting.compare import differences
from experiments.harness.reporting.looks import claims_over_looks, configurations_of, undecided_lines
from experiments.harness.statistics.estimates import Interval
from synth import UserError


def by_seed(*values: float) -> pandas.Series:
    return pandas.Series(values, range(len(values)), dtype=float)


def table(scale: str = "laptop", **columns: list) -> pandas.DataFrame:
    return pandas.DataFrame({"scale": scale, **columns} if columns else {"scale": [scale]})


@pytest.mark.parametrize(
    ("low", "high", "limits", "verdict"),
    [
        (91, 99, {"above": 90}, "reproduced"),
        (80, 89, {"above": 90}, "contradicted"),
        (80, 99, {"above": 90}, "undecided"),
        (1, 2, {"below": 3}, "reproduced"),
        (4, 5, {"below": 3}, "contradicted"),
        (1.5, 2.2, {"above": 1, "below": 2.3}, "reproduced"),
        (1.5, 2.4, {"above": 1, "below": 2.3}, "undecided"),
        (2.4, 2.5, {"above": 1, "below": 2.3}, "contradicted"),
        (-math.inf, math.inf, {"above": 0}, "undecided"),
    ],
)
def test_verdicts(low: float, high: float, limits: dict, verdict: str) -> None:
    assert decide_verdict(Interval((low + high) / 2, low, high, 3), **limits) == verdict


def test_one_seed_decides_nothing_and_a_threshold_is_needed() -> None:
    one = mean_of(by_seed(100.0))
    assert one is not None and decide_verdict(one.interval(), above=90) == "undecided"
    with pytest.raises(UserError, match="threshold"):
        decide_verdict(Interval(1, 0, 2, 2))
    with pytest.raises(UserError, match="no verdict"):
        Claim("1.1", "words", verdict="confirmed")  # type: ignore[arg-type]


def test_a_failed_gate_says_which_and_by_how_much() -> None:
    made = ClaimList(table())
    values = by_seed(0.95, 0.96, 0.97)
    base, hint = Gate("base", by_seed(0.2, 0.3), at_least=0.9), Gate("hint", 0.5, at_most=0.6)
    made.add("a", "fails", values, None, "above .9", above=0.9, gates=[base, hint])
    made.add("a", "passes", values, None, "above .9", above=0.9, gates=[hint])
    made.add("a", "not run", values, None, "above .9", above=0.9, gates=[Gate("base", None, at_least=0.9)])
    made.add("a", "nothing", None, None, "above .9", above=0.9)
    made.add("a", "too small", values, None, "above .9", testable=False, above=0.9)
    assert [claim.verdict for claim in made] == ["not testable", "reproduced", "not run", "not run", "not testable"]
    assert made[0].gate == "base 0.25, needs at least 0.9" and made[0].value == pytest.approx(0.96)
    assert made[1].gate == "" and "scale" in made[4].gate
    with pytest.raises(UserError, match="no limit"):
        Gate("base", 0.5)


def test_smoke_decides_nothing() -> None:
    made = ClaimList(table("smoke"))
    made.add("a", "b", by_seed(1, 1.1, 1.2), None, "above 0", above=0)
    assert made[0].verdict == "not testable"


def test_a_claim_is_json_without_infinite_numbers() -> None:
    made = ClaimList(table())
    made.add("a", "b", solved_of(by_seed(1, 1, 0)), "paper", "above 0", above=0, primary=True)
    found = made[0].to_dict()
    assert found["primary"] is True and found["looks"] is None and found["n"] == 3
    assert Claim("a", "b", low=-math.inf).to_dict()["low"] is None


# ---- looks -----------------------------------------------------------------------------------------------------
def looked_at(effects: dict[str, list[float]], looks: str = "3,5,8,12") -> pandas.DataFrame:
    """A table with a row a seed for every arm."""
    rows = [
        {"run": f"{arm}{seed}", "scale": "laptop", "looks": looks, "arm": arm, "seed_init": seed, "score": score}
        for arm, scores in effects.items()
        for seed, score in enumerate(scores)
    ]
    return pandas.DataFrame(rows)


def claims_of_arms(table: pandas.DataFrame) -> list[Claim]:
    made = ClaimList(table)
    for arm in "ab":
        values = table[table["arm"] == arm].set_index("seed_init")["score"]
        if len(values) == 0:
            raise KeyError(arm)  # as scripts do where rows are missing
        made.add(arm, f"score of {arm}", values, None, "above 0", above=0, primary=arm == "a")
    return made


def test_a_verdict_is_that_of_the_first_look_that_decides() -> None:
    early = looked_at({"a": [1.0, 1.01, 0.99, -9, 9], "b": [1.0, -1.0, 0.5, 0.2, 0.3]})
    a, b = claims_over_looks(early, claims_of_arms)
    assert (a.verdict, a.looks, a.n) == ("reproduced", 1, 5) and (b.verdict, b.looks) == ("undecided", 2)
    assert a.low is not None and a.low < 0  # the interval is that of all seeds


def test_an_interval_is_wider_where_it_is_looked_at_several_times() -> None:
    scores = {"a": [1.0, 1.2, 0.9], "b": [1.0, 1.2, 0.9]}
    fixed = claims_of_arms(looked_at(scores).drop(columns="looks"))[0]
    looked = claims_over_looks(looked_at(scores), claims_of_arms)[0]
    assert looked.low < fixed.low < fixed.high < looked.high and fixed.looks is None  # type: ignore[operator]


def test_a_claim_that_lacks_a_seed_is_still_decided_at_the_last_look() -> None:
    scores = [0.1, -0.3, 0.5, 0.1, -0.2, 0.4, 0.6, 0.1] + [1.0] * 3
    a, _ = claims_over_looks(looked_at({"a": [*scores, math.nan], "b": [0.0] * 12}), claims_of_arms)
    assert a.n == 11 and (a.verdict, a.looks) == ("reproduced", 4)


def test_only_configurations_of_undecided_primary_claims_go_on() -> None:
    found = looked_at({"a": [1.0, -1.0, 0.1], "b": [5.0, 5.1, 5.2], "c": [1.0, 2.0, 3.0]})
    lines = undecided_lines(claims_over_looks(found, claims_of_arms))
    assert lines == {("a", "score of a")}
    arms = {arm: set(found.loc[found["arm"] == arm, "run"]) for arm in "abc"}

    def claims_of_a(rows: pandas.DataFrame) -> list[Claim]:
        made = ClaimList(rows)
        values = rows[rows["arm"] == "a"].set_index("seed_init")["score"]
        made.add("a", "score of a", values, None, "above 0", above=0, primary=True)
        return made

    assert configurations_of(lines, found, claims_of_a, arms) == {"a"}
    assert configurations_of(lines, found, claims_of_arms, arms) == {"a", "b"}  # without b it cannot be made at all


# ---- beside the committed result -------------------------------------------------------------------------------
def test_a_result_is_compared_with_the_committed_one() -> None:
    def claim(value: float, verdict: str = "undecided", **limits: float) -> Claim:
        return Claim("1.1", "share", value=value, verdict=verdict, **limits)  # type: ignore[arg-type]

    committed = [claim(0.8, low=0.7, high=0.9)]
    assert differences([claim(0.85)], committed) == []
    assert "0.65, outside the committed interval 0.7 to 0.9" in differences([claim(0.65)], committed)[0]
    assert "reproduced, committed as undecided" in differences([claim(0.8, "reproduced")], committed)[0]
    assert differences([Claim("9", "new", value=1.0)], committed) == []


def test_a_planted_null_is_not_shown() -> None:
    """In 95% of tables without an effect the claim that there is one is not reproduced."""
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(400):
        made = ClaimList(table())
        made.add("a", "b", by_seed(*rng.normal(0, 1, 3)), None, "above 0", above=0)
        shown += made[0].verdict == "reproduced"
    assert shown / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_two_conditions_for_one_claim_are_both_named() -> None:
    gate = Gate("share", 0.5, at_least=0.1, at_most=0.4)
    assert str(gate) == "share 0.5, needs at least 0.1 and at most 0.4" and not gate.passed
