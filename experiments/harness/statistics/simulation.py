"""Claims simulated many at a time: how often verdicts are false, and how many seeds an effect takes.

A quantity says how its value in one seed is distributed and which interval it gets. The intervals are those of
experiments.harness.statistics.estimates, written for many claims at once; a test holds the two together claim by claim.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import numpy as np

from experiments.harness.statistics.estimates import binomial_limits, student_quantile
from experiments.harness.statistics.sequential import Design
from synth.errors import UserError

Limits = tuple[np.ndarray, np.ndarray]  # lower and upper limits (claims,)


class Quantity(Protocol):
    """A quantity whose true value is known: its values (..., claims, seeds), and the interval of each claim."""

    @property
    def truth(self) -> float: ...
    def draw(self, rng: np.random.Generator, claims: int, seeds: int) -> np.ndarray: ...
    def limits(self, values: np.ndarray, level: float) -> Limits: ...


# ---- quantities ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class NormalMean:
    """A mean or a paired difference: normal in every seed, with this spread (standard deviation) between seeds."""

    truth: float
    spread: float = 1.0

    def draw(self, rng: np.random.Generator, claims: int, seeds: int) -> np.ndarray:
        return rng.normal(self.truth, self.spread, (claims, seeds))

    def limits(self, values: np.ndarray, level: float) -> Limits:
        half = student_quantile(level, values.shape[1]) * np.sqrt(_variance_of_mean(values))
        return values.mean(axis=1) - half, values.mean(axis=1) + half


@dataclass(frozen=True)
class Share:
    """A share of `items` independent items, whose probability differs between seeds by this spread (beta-binomial).

    Raises UserError for a spread that no probability with this mean can have.
    """

    truth: float
    items: int
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.truth <= 1:
            raise UserError(f"a share of {self.truth:g} is not between 0 and 1")
        most = sqrt(self.truth * (1 - self.truth))
        if not (self.spread == 0 or 0 < self.spread < most):
            raise UserError(f"shares around {self.truth:g} cannot spread by {self.spread:g}; give less than {most:.2g}")

    def draw(self, rng: np.random.Generator, claims: int, seeds: int) -> np.ndarray:
        chance: Any = self.truth
        if self.spread:
            size = self.truth * (1 - self.truth) / self.spread**2 - 1
            chance = rng.beta(self.truth * size, (1 - self.truth) * size, (claims, seeds))
        return rng.binomial(self.items, chance, (claims, seeds)) / self.items

    def limits(self, values: np.ndarray, level: float) -> Limits:
        (claims, n), p, variance = values.shape, values.mean(axis=1), _variance_of_mean(values)
        total = n * self.items
        fewer = student_quantile(level, total) / student_quantile(level, n)
        varied = (variance > 0) & (p > 0) & (p < 1)
        effective = np.full(claims, float(total))
        effective[varied] = np.minimum(total, (p * (1 - p) * fewer**2)[varied] / variance[varied])
        return _exact_limits(p * effective, effective, level)


@dataclass(frozen=True)
class Solved:
    """The probability that a seed solves the task."""

    truth: float

    def draw(self, rng: np.random.Generator, claims: int, seeds: int) -> np.ndarray:
        return (rng.random((claims, seeds)) < self.truth).astype(float)

    def limits(self, values: np.ndarray, level: float) -> Limits:
        n = values.shape[1]
        by_count = np.array([binomial_limits(solved, n, level) for solved in range(n + 1)])
        low, high = by_count[values.sum(axis=1).astype(int)].T
        return low, high


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means measured in the same seeds; `spread` is of either, in units of the base, whose mean is 1."""

    truth: float
    spread: float = 0.1
    correlation: float = 0.0

    def draw(self, rng: np.random.Generator, claims: int, seeds: int) -> np.ndarray:
        bottom, own = rng.standard_normal((2, claims, seeds))
        top = self.correlation * bottom + np.sqrt(1 - self.correlation**2) * own
        return np.stack([self.truth + self.spread * top, 1 + self.spread * bottom])

    def limits(self, values: np.ndarray, level: float) -> Limits:
        n, (top, bottom) = values.shape[-1], values.mean(axis=-1)
        deviations = values - values.mean(axis=-1, keepdims=True)
        scale = student_quantile(level, n) ** 2 / n
        var_top, var_bottom = (deviations**2).sum(axis=-1) / (n - 1)
        both = deviations.prod(axis=0).sum(axis=-1) / (n - 1)
        square, middle = bottom**2 - scale * var_bottom, top * bottom - scale * both
        residuals = (bottom[:, None] * values[0] - top[:, None] * values[1]).var(axis=-1, ddof=1)
        root = np.sqrt(np.maximum(scale * (residuals - scale * (var_top * var_bottom - both**2)), 0))
        clear = square > 0
        square = np.where(clear, square, 1)
        return np.where(clear, (middle - root) / square, -np.inf), np.where(clear, (middle + root) / square, np.inf)


@dataclass(frozen=True)
class ShareDifference:
    """A paired difference of two shares with Student's interval; the two are independent, which is the hardest case."""

    a: Share
    b: Share

    @property
    def truth(self) -> float:
        return self.a.truth - self.b.truth

    def draw(self, rng: np.random.Generator, claims: int, seeds: int) -> np.ndarray:
        return self.a.draw(rng, claims, seeds) - self.b.draw(rng, claims, seeds)

    def limits(self, values: np.ndarray, level: float) -> Limits:
        low, high = NormalMean(self.truth).limits(values, level)
        return np.maximum(low, -1), np.minimum(high, 1)


def _variance_of_mean(values: np.ndarray) -> np.ndarray:
    return values.var(axis=1, ddof=1) / values.shape[1]


def _exact_limits(successes: np.ndarray, n: np.ndarray, level: float) -> Limits:
    """Clopper and Pearson's limits of many shares."""
    from scipy.special import betaincinv

    tail, failures = (1 - level) / 2, n - successes
    low = np.where(successes > 0, betaincinv(np.where(successes > 0, successes, 1), failures + 1, tail), 0)
    high = np.where(failures > 0, betaincinv(successes + 1, np.where(failures > 0, failures, 1), 1 - tail), 1)
    return low, high


# ---- verdicts ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class VerdictShares:
    """Shares of the claims "the quantity is above the threshold" with each verdict, and the mean number of seeds.

    reproduced_by: the share that is reproduced by each look.
    """

    reproduced: float
    contradicted: float
    undecided: float
    seeds: float
    reproduced_by: dict[int, float]


def simulate_verdicts(
    design: Design, quantity: Quantity, threshold: float = 0.0, claims: int = 10_000, seed: int = 0
) -> VerdictShares:
    """The verdicts of many independent claims that a quantity is above a threshold, each stopped when it is decided.

    Where the true value equals the threshold, every verdict but "undecided" is false.
    """
    values = quantity.draw(np.random.default_rng(seed), claims, design.looks[-1])
    verdicts, seeds = judge(design, quantity, values, threshold)
    reproduced, contradicted, undecided = (float((verdicts == verdict).mean()) for verdict in (1, -1, 0))
    by = {look: float(((verdicts == 1) & (seeds <= look)).mean()) for look in design.looks}
    return VerdictShares(reproduced, contradicted, undecided, float(seeds.mean()), by)


def judge(design: Design, quantity: Quantity, values: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts (claims,), 1 reproduced, -1 contradicted and 0 undecided, and the seeds (claims,) that they took.

    values (..., claims, seeds): those of as many seeds as the design has at most.
    """
    claims = values.shape[-2]
    verdicts, seeds = np.zeros(claims, int), np.full(claims, design.looks[-1])
    for n in design.looks:
        low, high = quantity.limits(values[..., :n], design.level(n))
        found = (low > threshold).astype(int) - (high < threshold)
        seeds[(verdicts == 0) & (found != 0)] = n
        verdicts = np.where(verdicts == 0, found, verdicts)
    return verdicts, seeds
