"""Intervals, tests and verdicts with planted answers."""

import numpy as np
import pytest

from experiments.harness import Claim, Interval, decide_verdict, interval, paired_interval, sign_flip_test
from synth import UserError


def test_the_interval_is_students():
    found = interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / np.sqrt(3)  # t quantile of 2 degrees of freedom; the sample deviation is 1
    assert (found.mean, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - half) and found.high == pytest.approx(2 + half)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(5, 2, 4)) for _ in range(2000)]
    assert np.mean([each.low <= 5 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval_and_none_is_an_error():
    assert np.isnan(interval([3.0]).low)
    for bad in ([], [1.0, np.nan]):
        with pytest.raises(ValueError, match="no interval"):
            interval(bad)


def test_pairs_are_compared_within_a_seed():
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 10, 6)
    better = seeds + 1 + rng.normal(0, 0.1, 6)
    assert paired_interval(better, seeds).low > 0.8
    assert sign_flip_test(better, seeds) == pytest.approx(2 / 2**6)
    assert sign_flip_test([1, -1, 1, -1], [0, 0, 0, 0]) == 1.0
    with pytest.raises(ValueError, match="equally many"):
        paired_interval([1], [1, 2])


@pytest.mark.parametrize("n", [8, 20])
def test_the_sign_flip_test_finds_nothing_in_noise(n):
    rng = np.random.default_rng(2)
    p = [sign_flip_test(rng.normal(size=n), rng.normal(size=n)) for _ in range(150)]
    assert np.mean(np.array(p) <= 0.05) < 0.11


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
    ],
)
def test_verdicts(low, high, limits, verdict):
    assert decide_verdict(Interval((low + high) / 2, low, high, 3), **limits) == verdict


def test_one_seed_decides_nothing_and_a_threshold_is_needed():
    assert decide_verdict(interval([100.0]), above=90) == "undecided"
    with pytest.raises(UserError, match="threshold"):
        decide_verdict(interval([1.0, 2.0]))


def test_a_claim_with_an_unknown_verdict_raises():
    with pytest.raises(UserError, match="no verdict"):
        Claim("1.1", "words", verdict="confirmed")
