"""Intervals over seeds: numbers by hand, other implementations, exact enumeration, and properties."""

from functools import partial
from math import comb, sqrt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from experiments.harness.statistics.estimates import (
    count_difference_of,
    difference_of,
    mean_of,
    ratio_of,
    share_of,
    solved_of,
)

T2 = 2.919985580353726  # Student's quantile that leaves 5% above it, 2 degrees of freedom
levels = st.floats(0.5, 0.99)
shares = st.lists(st.integers(0, 20).map(lambda count: count / 20), min_size=2, max_size=12)


def series(*values, start=0):
    return pd.Series(values, index=range(start, start + len(values)), dtype=float)


# ---- values and limits by hand -------------------------------------------------------------------------------------
def test_the_mean_has_students_interval_with_5_percent_on_either_side():
    found = mean_of(series(1, 2, 3)).interval()
    assert (found.mean, found.n) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - T2 / sqrt(3), 2 + T2 / sqrt(3)))


def test_limits_end_where_the_quantity_ends():
    found = mean_of(series(0.1, 0.9, 0.8), low=0, high=1).interval()
    assert (found.low, found.high) == (0, 1)
    assert found.mean == pytest.approx(0.6)


def test_seeds_without_a_value_are_dropped_and_pairs_meet_by_seed():
    assert mean_of(series(1, np.nan, 3)).n == 2
    found = difference_of(series(5, 7, 9), series(1, 1, 1, start=1))
    assert list(found.values) == [6, 8] and list(found.values.index) == [1, 2]
    assert ratio_of(series(5, 8, 9), series(2, 3, 1, start=1)).mean == 17 / 5


@pytest.mark.parametrize("make", [mean_of, solved_of, partial(share_of, items=9)])
def test_no_value_is_no_estimate_and_one_has_no_limits(make):
    assert make(series()) is None and make(series(np.nan)) is None
    one = make(series(1)).interval()
    assert (one.mean, one.n) == (1, 1) and np.isnan(one.low) and np.isnan(one.high)


def test_pairs_without_a_common_seed_are_no_estimate():
    a, b = series(1, 2), series(1, 2, start=5)
    assert difference_of(a, b) is None and ratio_of(a, b) is None and count_difference_of(a, b) is None
    no_base = ratio_of(series(1, 2), series(1, -1))
    assert np.isnan(no_base.mean) and (no_base.interval().low, no_base.interval().high) == (-np.inf, np.inf)


def test_a_seed_has_one_value():
    twice = series(1, 2, 3).set_axis([0, 0, 1])
    for make in (mean_of, solved_of, lambda s: difference_of(s, s), lambda s: ratio_of(s, s)):
        with pytest.raises(ValueError, match="several values for seed 0"):
            make(twice)


def test_impossible_values_are_refused():
    for bad in (lambda: mean_of(series(1, np.inf)), lambda: share_of(series(0.5, 1.2), 10)):
        with pytest.raises(ValueError):
            bad()
    with pytest.raises(ValueError, match="items"):
        share_of(series(0.5), 0)


# ---- solved or not -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_solved_has_the_exact_limits_of_scipy(n):
    for k in range(n + 1):
        flags = pd.Series([True] * k + [False] * (n - k))
        found, other = solved_of(flags).interval(), binomtest(k, n).proportion_ci(0.90, "exact")
        assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-9)
    assert solved_of(pd.Series([True] * 3)).interval().low == pytest.approx(0.05 ** (1 / 3))


@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_solved_errs_in_at_most_5_percent_for_every_probability(n):
    limits = [solved_of(pd.Series([True] * k + [False] * (n - k))).interval() for k in range(n + 1)]
    for p in np.linspace(0.01, 0.99, 99):
        chances = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        too_high = sum(chance for chance, found in zip(chances, limits, strict=True) if found.low > p)
        too_low = sum(chance for chance, found in zip(chances, limits, strict=True) if found.high < p)
        assert max(too_high, too_low) <= 0.05 + 1e-9


# ---- paired flags and counts ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("n", "level", "enough"), [(4, 0.90, False), (5, 0.90, True), (3, 0.75, True), (5, 0.95, False)]
)
def test_differences_that_all_agree_are_shown_by_so_many_seeds_as_a_sign_test_takes(n, level, enough):
    found = count_difference_of(series(*[3] * n), series(*[1] * n)).interval(level)
    other = binomtest(n, n, 0.5, alternative="greater").pvalue <= (1 - level) / 2
    assert other == enough
    assert (found.mean, found.low, found.high) == (2, *((2, 2) if enough else (-np.inf, np.inf)))


def test_one_seed_that_disagrees_is_inside_the_limits_of_counts():
    found = count_difference_of(series(2, 2, 2, 2, 0, 2), series(0, 0, 0, 0, 1, 0)).interval()
    assert (found.mean, found.low, found.high) == (1.5, -1, 2)


def test_flags_of_few_seeds_have_the_whole_range():
    found = count_difference_of(series(1, 1, 1), series(0, 0, 0), low=-1, high=1).interval()
    assert (found.mean, found.low, found.high, found.n) == (1, -1, 1, 3)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_count_differences_err_in_at_most_5_percent_at_the_median(n):
    """Exact: differences of -1 and 1, each with a chance of a half, whose medians are all of [-1, 1]."""
    wrong = sum(
        count_difference_of(series(*(k >> i & 1 for i in range(n))), series(*(1 - (k >> i & 1) for i in range(n))))
        .interval()
        .low
        > 0
        for k in range(2**n)
    )
    assert wrong / 2**n <= 0.05 and (wrong == 1) == (n >= 5)


# ---- shares --------------------------------------------------------------------------------------------------------
def test_seeds_that_agree_count_every_item():
    found, other = share_of(series(0.9, 0.9, 0.9), 100).interval(), binomtest(270, 300).proportion_ci(0.90, "exact")
    assert (found.low, found.high) == pytest.approx((other.low, other.high))


def test_seeds_that_differ_count_as_fewer_items():
    """Korn and Graubard by hand: variance of the mean 0.01, Student's quantiles for 2 and 2999 degrees of freedom."""
    spread = sqrt(0.03)
    found = share_of(series(0.5 - spread, 0.5, 0.5 + spread), 1000).interval()
    effective = 0.25 / 0.01 * (1.64536 / T2) ** 2
    assert effective == pytest.approx(7.938, abs=1e-3)
    assert found.low == pytest.approx(1 - found.high)
    close = binomtest(4, 8).proportion_ci(0.90, "exact")
    assert found.low == pytest.approx(close.low, abs=0.01)
    assert share_of(series(0.2, 0.5, 0.8), 1000).interval().low > 0 > 0.5 - T2 * 0.3 / sqrt(3)


@given(shares, levels)
def test_shares_have_ordered_limits_inside_0_and_1(values, level):
    found = share_of(series(*values), 20).interval(level)
    assert 0 <= found.low <= found.mean + 1e-9 and found.mean - 1e-9 <= found.high <= 1
    wider = share_of(series(*values), 20).interval((1 + level) / 2)
    assert wider.low <= found.low + 1e-9 and wider.high >= found.high - 1e-9


# ---- every kind ----------------------------------------------------------------------------------------------------
KINDS = {
    "mean": mean_of,
    "share": partial(share_of, items=20),
    "solved": lambda values: solved_of(values > 0.5),
    "difference": lambda values: difference_of(values, values[::-1].set_axis(values.index)),
    "ratio": lambda values: ratio_of(values, 1 + values[::-1].set_axis(values.index) / 10),
}


@pytest.mark.parametrize("kind", KINDS)
@given(shares, levels)
def test_more_of_the_same_seeds_are_narrower(kind, values, level):
    once, twice = KINDS[kind](series(*values)).interval(level), KINDS[kind](series(*values * 2)).interval(level)
    assert once.low <= once.mean + 1e-9 and once.mean - 1e-9 <= once.high
    assert twice.mean == pytest.approx(once.mean) and twice.n == 2 * once.n
    assert twice.high - twice.low <= once.high - once.low + 1e-9


@pytest.mark.parametrize("seed", range(25))
def test_fieller_keeps_the_ratios_that_students_test_does_not_exclude(seed):
    rng = np.random.default_rng(seed)
    a, b = pd.Series(rng.normal(2, 1, 4)), pd.Series(rng.normal(1, 0.5, 4))
    base, limits = mean_of(b).interval(), ratio_of(a, b).interval()
    if base.low <= 0 <= base.high:
        assert (limits.low, limits.high) == (-np.inf, np.inf)
        return
    for ratio in np.linspace(-10, 20, 61):
        difference = mean_of(a - ratio * b).interval()
        assert (difference.low <= 0 <= difference.high) == (limits.low <= ratio <= limits.high)


def test_a_ratio_is_that_of_means_and_no_seed_is_divided_by_zero():
    found = ratio_of(series(1, 2, 3, 2), series(0, 1, 1.2, 0.9))
    assert found.mean == pytest.approx(8 / 3.1)
    assert np.isfinite(found.interval().mean)
