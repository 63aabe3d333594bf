"""Simulated claims: the same verdicts as the code that judges real ones, and as many false ones as it promises."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import nctdtr, stdtrit

from experiments.harness.reporting.claims import decide_verdict
from experiments.harness.statistics.estimates import difference_of, mean_of, ratio_of, share_of, solved_of
from experiments.harness.statistics.sequential import AUTO, Design, fixed
from experiments.harness.statistics.simulation import (
    NormalMean,
    Ratio,
    Share,
    ShareDifference,
    Solved,
    judge,
    simulate_verdicts,
)
from synth import UserError

WORDS = {1: "reproduced", -1: "contradicted", 0: "undecided"}
CLAIMS = 10_000
SLACK = 3.5 * np.sqrt(0.05 * 0.95 / CLAIMS)  # of a share of 5% among so many claims


# ---- the same verdicts as for real tables --------------------------------------------------------------------------
def _ratio(values):
    return ratio_of(pd.Series(values[0]), pd.Series(values[1]))


CASES = {
    "mean": (NormalMean(0.8), 0.0, lambda values: mean_of(pd.Series(values))),
    "share": (Share(0.8, 50, 0.1), 0.7, lambda values: share_of(pd.Series(values), 50)),
    "share near 1": (Share(0.99, 20, 0.02), 0.95, lambda values: share_of(pd.Series(values), 20)),
    "solved": (Solved(0.8), 0.45, lambda values: solved_of(pd.Series(values))),
    "ratio": (Ratio(1.3, 0.3, 0.5), 1.0, _ratio),
    "ratio of an unclear base": (Ratio(1.0, 1.5), 1.0, _ratio),
    "difference": (
        ShareDifference(Share(0.9, 50, 0.1), Share(0.7, 50)),
        0.1,
        lambda values: difference_of(pd.Series(values), pd.Series(np.zeros(len(values))), -1, 1),
    ),
}


def verdict_of_one(design, make_estimate, values, threshold):
    """The verdict and seeds of one claim, look by look, from the estimates and rules of the ledger."""
    for n in design.looks:
        verdict = decide_verdict(make_estimate(values[..., :n]).interval(design.level(n)), above=threshold)
        if verdict != "undecided":
            break
    return verdict, n


@pytest.mark.parametrize("name", CASES)
def test_every_claim_gets_the_verdict_of_the_ledger(name):
    quantity, threshold, make_estimate = CASES[name]
    values = quantity.draw(np.random.default_rng(3), 120, 12)
    verdicts, seeds = judge(AUTO, quantity, values, threshold)
    expected = [verdict_of_one(AUTO, make_estimate, values[..., k, :], threshold) for k in range(120)]
    assert [(WORDS[v], n) for v, n in zip(verdicts.tolist(), seeds.tolist(), strict=True)] == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", CASES)
def test_the_limits_are_those_of_the_estimates(name):
    quantity, _, make_estimate = CASES[name]
    for n in (2, 3, 8):
        values = quantity.draw(np.random.default_rng(n), 60, n)
        low, high = quantity.limits(values, 0.93)
        found = [make_estimate(values[..., k, :]).interval(0.93) for k in range(60)]
        assert low == pytest.approx([each.low for each in found], rel=1e-8, abs=1e-9)
        assert high == pytest.approx([each.high for each in found], rel=1e-8, abs=1e-9)


def test_draws_have_the_mean_and_the_spread_they_are_given():
    rng = np.random.default_rng(0)
    for quantity, spread in ((NormalMean(2.0, 0.3), 0.3), (Share(0.9, 200, 0.05), np.sqrt(0.05**2 + 0.0875 / 200))):
        values = quantity.draw(rng, CLAIMS, 4)
        assert values.mean() == pytest.approx(quantity.truth, abs=0.01)
        assert values.std() == pytest.approx(spread, rel=0.02)
    top, bottom = Ratio(1.5, 0.2, 0.8).draw(rng, CLAIMS, 4)
    assert np.corrcoef(top.ravel(), bottom.ravel())[0, 1] == pytest.approx(0.8, abs=0.01)
    assert (top.mean() / bottom.mean(), top.std()) == pytest.approx((1.5, 0.2), abs=0.01)


# ---- false verdicts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("design", [AUTO, Design((3, 6)), Design((2, 3, 4, 5, 6)), fixed(3), fixed(12)])
def test_at_the_threshold_five_percent_are_reproduced(design):
    found = simulate_verdicts(design, NormalMean(0.0), claims=CLAIMS)
    assert 0.04 < found.reproduced < 0.06
    assert 0.04 < found.contradicted < 0.06


def test_looking_again_at_the_level_of_one_look_is_wrong_more_often():
    """What the levels of a design are for: the same looks, each at 5%, are wrong twice as often."""

    class Careless(Design):
        def level(self, n):
            return 0.90

    assert simulate_verdicts(Careless(AUTO.looks), NormalMean(0.0)).reproduced > 0.1


def test_a_planted_null_is_not_shown_in_95_percent_and_an_effect_is():
    null, effect = (simulate_verdicts(AUTO, NormalMean(mean)) for mean in (0.0, 1.5))
    assert null.reproduced < 0.05 + SLACK and null.seeds > 11
    assert effect.reproduced > 0.99 and effect.contradicted < 0.001 and effect.seeds < 7
    assert list(effect.reproduced_by) == list(AUTO.looks)
    assert list(effect.reproduced_by.values()) == sorted(effect.reproduced_by.values())
    assert effect.reproduced_by[12] == effect.reproduced


@pytest.mark.parametrize("effect", [0.5, 2.0])
def test_power_of_one_look_is_that_of_the_noncentral_t(effect):
    exact = 1 - nctdtr(4, effect * np.sqrt(5), stdtrit(4, 0.95))
    assert simulate_verdicts(fixed(5), NormalMean(effect)).reproduced == pytest.approx(exact, abs=0.015)


def errors_of(quantity, design):
    found = simulate_verdicts(design, quantity, quantity.truth, claims=CLAIMS)
    return max(found.reproduced, found.contradicted)


@pytest.mark.parametrize("items", [20, 200, 2000])
@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_shares_err_in_at_most_5_percent_where_seeds_spread_by_less_than_a_third_of_the_way_to_the_end(n, items):
    errors = partial(errors_of, design=fixed(n))
    assert max(errors(Share(p, items)) for p in (0.02, 0.1, 0.5, 0.9, 0.99)) < 0.05
    assert max(errors(Share(p, items, 0.02)) for p in (0.1, 0.5, 0.9)) < 0.05 + SLACK
    assert errors(Share(0.5, items, 0.1)) < 0.05 + SLACK


@pytest.mark.parametrize(("share", "spread", "least", "most"), [(0.9, 0.1, 0.06, 0.10), (0.99, 0.02, 0.1, 0.25)])
def test_shares_err_more_often_where_few_seeds_are_far_from_the_rest(share, spread, least, most):
    """What docs/statistics.md warns of: most seeds are perfect and a few fail, and a few seeds show none of those."""
    for n in (3, 5, 8, 12):
        assert least < errors_of(Share(share, 200, spread), fixed(n)) < most


def test_impossible_spreads_are_one_line():
    for bad in ((0.99, 0.1), (0.5, 0.5), (1.5, 0.0), (0.5, -0.1)):
        with pytest.raises(UserError):
            Share(bad[0], 100, bad[1])


@pytest.mark.parametrize("n", [3, 5, 8, 12])
@pytest.mark.parametrize("spread", [0.05, 0.2, 0.4])
def test_ratios_err_in_at_most_5_percent(n, spread):
    for truth, correlation in ((0.5, 0.0), (1.0, 0.8), (2.0, 0.0)):
        assert errors_of(Ratio(truth, spread, correlation), fixed(n)) < 0.05 + SLACK


@pytest.mark.parametrize("quantity", [Solved(0.5), Solved(0.9), Ratio(1.0, 0.2), Share(0.9, 200, 0.02)], ids=repr)
def test_several_looks_err_in_at_most_5_percent(quantity):
    assert errors_of(quantity, AUTO) < 0.05 + SLACK
