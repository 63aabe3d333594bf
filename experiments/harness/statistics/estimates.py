"""Quantities measured once per seed, each with the interval that fits it.

Seeds are the independent repetitions. An interval leaves out at most 5% on either side (LEVEL), so that "the quantity
is above a threshold" is tested one-sided at 5% by looking whether the lower limit is above it. Nothing is clamped
before it is averaged; limits end where the quantity can end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import Series

LEVEL = 0.90  # of an interval: an error of at most 5% on either side


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence limits over n seeds; the limits are NaN for one seed."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


@dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity measured once per seed: its values, their mean, and the interval at any level.

    values: one number per seed, indexed by seed; for a ratio those of numerator over denominator, NaN over 0, whose
    `mean` is the ratio of means. limits_at(level) gives the two confidence limits.
    """

    values: "Series"
    mean: float
    limits_at: Callable[[float], tuple[float, float]]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    def interval(self, level: float = LEVEL) -> Interval:
        """The two-sided interval at this level; its limits are NaN for a single seed."""
        low, high = self.limits_at(level) if self.n > 1 else (np.nan, np.nan)
        return Interval(self.mean, low, high, self.n)


def mean_of(values: "Series", low: float = -np.inf, high: float = np.inf) -> Estimate | None:
    """The mean over seeds with Student's interval, which ends at the limits that the quantity cannot leave.

    None if no seed has a value. Raises ValueError for infinite values.
    """
    found = _finite(values)
    if found.empty:
        return None
    mean = float(found.mean())
    return Estimate(found, mean, lambda level: _within(student_limits(found.to_numpy(), level), low, high))


def difference_of(a: "Series", b: "Series", low: float = -np.inf, high: float = np.inf) -> Estimate | None:
    """The mean of a - b over the seeds that have both, with Student's interval of the paired differences.

    low, high: limits of the difference, -1 and 1 for shares. None if no seed has both.
    """
    return mean_of(_by_seed(a) - _by_seed(b), low, high)


def count_difference_of(a: "Series", b: "Series", low: float = -np.inf, high: float = np.inf) -> Estimate | None:
    """The mean of a - b, both flags or counts, over the seeds that have both, with the limits of a sign test.

    Counts often differ equally in all seeds, where Student's interval would have no width. The limits are those of the
    median: from the least to the greatest difference if so many seeds suffice (a chance of 0.5^n that all fall on one
    side, at most the error of the level on that side; 5 seeds at LEVEL), else low and high. None if no seed has both.
    """
    found = _finite(_by_seed(a) - _by_seed(b))
    if found.empty:
        return None
    sample = found.to_numpy()
    return Estimate(found, float(sample.mean()), lambda level: _within(extreme_limits(sample, level), low, high))


def share_of(shares: "Series", items: float) -> Estimate | None:
    """The mean of shares in [0, 1], each measured on `items` independent items (sentences, people) of its seed.

    The interval of Korn and Graubard (1998): exact binomial limits at the effective number of items, which is less than
    the number of items where seeds differ by more than the items explain, with Student's quantiles for the few seeds.
    It lies inside [0, 1]. None if no seed has a value. Raises ValueError for shares outside [0, 1] or items below 1.
    """
    found = _finite(shares)
    if found.empty:
        return None
    if items < 1 or (found < 0).any() or (found > 1).any():
        raise ValueError(f"shares {found.min():g} to {found.max():g} of {items:g} items; both must be those of counts")
    return Estimate(found, float(found.mean()), lambda level: korn_graubard_limits(found.to_numpy(), items, level))


def solved_of(flags: "Series") -> Estimate | None:
    """The share of seeds that solved a task, with exact binomial limits (Clopper and Pearson 1934).

    flags: True or False (or 1 and 0) by seed. None if there are none.
    """
    found = _finite(flags.dropna().astype(float))
    if found.empty:
        return None
    solved, n = float(found.sum()), len(found)
    return Estimate(found, solved / n, lambda level: binomial_limits(solved, n, level))


def ratio_of(a: "Series", b: "Series") -> Estimate | None:
    """mean(a) / mean(b) over the seeds that have both, with Fieller's interval (1954).

    A ratio r lies in it where the paired differences a - r b do not exclude 0, so that no seed is divided by a number
    near 0. The limits are infinite where b is not clearly different from 0, and the mean is NaN where b is 0. None if
    no seed has both.
    """
    both = _finite(_by_seed(a) + 0 * _by_seed(b)).index
    top, bottom = a.loc[both].to_numpy(float), b.loc[both].to_numpy(float)
    if not len(both):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        values = a.loc[both].astype(float) / b.loc[both].astype(float).where(b.loc[both] != 0)
    mean = float(top.mean() / bottom.mean()) if bottom.mean() else np.nan
    return Estimate(values, mean, lambda level: fieller_limits(top, bottom, level))


# ---- limits ----------------------------------------------------------------------------------------------------
def student_limits(sample: np.ndarray, level: float) -> tuple[float, float]:
    """Student's limits of the mean of a sample (n,), n at least 2."""
    half = student_quantile(level, len(sample)) * float(sample.std(ddof=1)) / sqrt(len(sample))
    return float(sample.mean()) - half, float(sample.mean()) + half


def student_quantile(level: float, n: int) -> float:
    """Half-width of Student's interval of n values, in standard errors of their mean."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.5 + level / 2))


def extreme_limits(sample: np.ndarray, level: float) -> tuple[float, float]:
    """The least and greatest of a sample (n,), limits of its median that each fail with a chance of at most 0.5^n;
    infinite if that is more than the level leaves out on a side."""
    if 0.5 ** len(sample) > (1 - level) / 2:
        return -np.inf, np.inf
    return float(sample.min()), float(sample.max())


def binomial_limits(successes: float, n: float, level: float) -> tuple[float, float]:
    """Exact limits (Clopper and Pearson 1934) of a share; an effective number of items need not be whole."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def korn_graubard_limits(shares: np.ndarray, items: float, level: float) -> tuple[float, float]:
    """Limits of the mean of shares (n,), each of `items` items; see `share_of`."""
    n, p = len(shares), float(shares.mean())
    variance, total = float(shares.var(ddof=1)) / n, n * items
    effective = total
    if variance > 0 and 0 < p < 1:
        fewer = student_quantile(level, int(total)) / student_quantile(level, n)
        effective = min(total, p * (1 - p) / variance * fewer**2)
    return binomial_limits(p * effective, effective, level)


def fieller_limits(top: np.ndarray, bottom: np.ndarray, level: float) -> tuple[float, float]:
    """Limits of the ratio of the means of pairs (n,): the roots r of mean(top - r bottom)^2 = t^2 var / n."""
    scale = student_quantile(level, len(top)) ** 2 / len(top)
    (var_top, both), (_, var_bottom) = np.cov(top, bottom)
    square = bottom.mean() ** 2 - scale * var_bottom
    if square <= 0:
        return -np.inf, np.inf
    middle = top.mean() * bottom.mean() - scale * both
    # middle^2 - square (mean(top)^2 - scale var_top), without the difference of nearly equal numbers
    residuals = float(np.var(bottom.mean() * top - top.mean() * bottom, ddof=1))
    root = sqrt(max(scale * (residuals - scale * (var_top * var_bottom - both**2)), 0.0))
    return float((middle - root) / square), float((middle + root) / square)


def _within(limits: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    return max(limits[0], low), min(limits[1], high)


def _by_seed(values: "Series") -> "Series":
    """The values as numbers. Raises ValueError if a seed has several."""
    if not values.index.is_unique:
        twice = values.index[values.index.duplicated()][0]
        raise ValueError(f"several values for seed {twice}; average them first (mean_by_seed)")
    return values.astype(float)


def _finite(values: "Series") -> "Series":
    """The values that are not NaN, as numbers. Raises ValueError if one is infinite, or if a seed has several."""
    values = _by_seed(values)
    found = values.dropna().astype(float)
    if not np.isfinite(found.to_numpy()).all():
        raise ValueError("an infinite value has no interval; leave its seed out, or count it with solved_of")
    return found
