"""Intervals over seeds and paired tests between architectures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame, Series

EXACT = 16  # up to this many pairs all sign patterns are listed (65,536); beyond, as many are drawn


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence limits over n seeds; the limits are NaN when one seed says nothing about spread."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


def interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Student's t-interval of the mean of independent repetitions (n,). Raises ValueError on none or on NaN."""
    from scipy.special import stdtrit

    sample = np.asarray(values, float)
    n, mean = len(sample), float(sample.mean()) if len(sample) else np.nan
    if not np.isfinite(mean):
        raise ValueError(f"no interval of {n} values with mean {mean}; drop the rows that lack the metric")
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(sample.std(ddof=1)) / sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def interval_if_any(values: "Series") -> Interval | None:
    """The interval of the seeds that have a value; None where none has, as in a table that is not whole yet."""
    found = values.dropna()
    return interval(found) if len(found) else None


def where(table: "DataFrame", **values: Any) -> "DataFrame":
    """The rows with these values in these columns."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def with_columns(table: "DataFrame", names: Iterable[str]) -> "DataFrame":
    """The table with these columns, empty where it has not got them: the first runs of an experiment may not have made
    the rows that bring them."""
    return table.reindex(columns=[*table, *sorted(set(names) - set(table))])


def by_seed(table: "DataFrame", column: str, **values: Any) -> "Series":
    """A column of the rows with these values, indexed by seed; several rows of a seed are averaged."""
    return where(table, **values).groupby("seed_init")[column].mean()


def paired_interval(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """The t-interval of the mean of a - b, where a[k] and b[k] (n,) share seed k. Raises ValueError on other shapes."""
    return interval(_differences(a, b), level)


def sign_flip_test(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Two-sided p-value of "a and b are exchangeable within a pair" (n,): the share of sign patterns as extreme.

    Exact up to 16 pairs; its smallest value is 2 / 2**n, so that five seeds cannot give less than 0.0625.
    """
    differences = _differences(a, b)
    n = len(differences)
    if n <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(1 << EXACT, n))
    sums = np.abs(signs @ differences)
    observed = abs(differences.sum())
    as_extreme = int((sums >= observed * (1 - 1e-12)).sum())
    return as_extreme / len(signs) if n <= EXACT else (as_extreme + 1) / (len(signs) + 1)


def holm(p: Mapping[Any, float]) -> dict[Any, float]:
    """p-values of a family of tests, corrected so that the chance of even one false finding is kept (Holm 1979): the
    k-th smallest of m times m - k + 1, never less than the one before and at most 1."""
    corrected, least = {}, 0.0
    for k, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, value * (len(p) - k)))
        corrected[name] = least
    return {name: corrected[name] for name in p}


def _differences(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    if len(a) != len(b) or not len(a):
        raise ValueError(f"pairs need equally many values, not {len(a)} and {len(b)}")
    return np.asarray(a, float) - np.asarray(b, float)
