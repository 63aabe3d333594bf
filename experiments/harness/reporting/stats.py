"""Intervals over seeds, paired tests, and the selection of rows and columns that they need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MAX_EXACT_PAIRS = 16  # up to this many pairs all sign patterns are listed (65,536); beyond, as many are drawn


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence limits over n seeds; the limits are NaN for one seed."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


def interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Student's t-interval of the mean of independent repetitions (n,). Raises ValueError for no values or NaN."""
    from scipy.special import stdtrit

    sample = np.asarray(values, float)
    n, mean = len(sample), float(sample.mean()) if len(sample) else np.nan
    if not np.isfinite(mean):
        raise ValueError(f"no interval of {n} values with mean {mean}; drop the rows that lack the metric")
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(sample.std(ddof=1)) / sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def interval_or_none(values: "Series") -> Interval | None:
    """The interval of the values that are not NaN; None if there are none, as in the table of an unfinished
    experiment."""
    found = values.dropna()
    return interval(found) if len(found) else None


def select_rows(table: "DataFrame", **values: Any) -> "DataFrame":
    """The rows that have these values in these columns."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def with_columns(table: "DataFrame", names: Iterable[str]) -> "DataFrame":
    """The table with these columns, NaN where it lacks them: evaluations that have not run yet have made no column."""
    return table.reindex(columns=[*table, *sorted(set(names) - set(table))])


def mean_by_seed(table: "DataFrame", column: str, **values: Any) -> "Series":
    """A column of the rows with these values, averaged within each seed; indexed by seed_init."""
    return select_rows(table, **values).groupby("seed_init")[column].mean()


def paired_interval(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """The t-interval of the mean of a - b, where a[k] and b[k] (n,) share seed k. Raises ValueError for unequal
    lengths."""
    return interval(_paired_differences(a, b), level)


def sign_flip_test(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Two-sided p-value (n,) of the hypothesis that a[k] and b[k] are exchangeable: the share of sign patterns as
    extreme.

    Exact up to 16 pairs; the smallest value is 2 / 2**n, so that five seeds cannot give less than 0.0625.
    """
    differences = _paired_differences(a, b)
    n = len(differences)
    if n <= MAX_EXACT_PAIRS:
        signs = np.array(list(product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(1 << MAX_EXACT_PAIRS, n))
    sums = np.abs(signs @ differences)
    observed = abs(differences.sum())
    as_extreme = int((sums >= observed * (1 - 1e-12)).sum())
    return as_extreme / len(signs) if n <= MAX_EXACT_PAIRS else (as_extreme + 1) / (len(signs) + 1)


def holm_correction(p: Mapping[Any, float]) -> dict[Any, float]:
    """p-values corrected for the family-wise error rate (Holm 1979): the k-th smallest of m is multiplied by m - k + 1,
    made monotone and clipped to 1."""
    corrected, least = {}, 0.0
    for k, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, value * (len(p) - k)))
        corrected[name] = least
    return {name: corrected[name] for name in p}


def _paired_differences(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    if len(a) != len(b) or not len(a):
        raise ValueError(f"pairs need equally many values, not {len(a)} and {len(b)}")
    return np.asarray(a, float) - np.asarray(b, float)
