"""Designs that look at the seeds several times: nominal levels of Student tests under alpha spending.

Who looks again after every few seeds, and stops at the first interval beyond the threshold, is wrong more often than a
single interval is. A design gives every look a narrower error, so that the errors of all looks add up to the one
intended: the spending function of Pocock type of Lan and DeMets (1983, Biometrika 70, 659).

The libraries for such designs (gsDesign, rpact, ldbounds and what follows them in Python) take the statistics of the
looks as jointly normal. With three seeds Student's t has two degrees of freedom, and looks depend on one another in
another way too; the levels here are those of t tests (Jennison and Turnbull 1991, Biometrika 78, 133).
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import e, log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_SEEDS, EXAMPLE = 1000, "3,5,8,12"
# nodes of the integrals; the levels are exact to better than 1%
T_NODES, MOST_ASINH_T, NODES, PART_NODES, TAIL_NODES = 161, 10.0, 8192, 16, 513


@dataclass(frozen=True)
class Design:
    """The numbers of seeds at which claims are looked at, and the one-sided error that all looks share.

    looks: increasing; the last is the most seeds that are run, and one look is the fixed sample. error: the probability
    that a quantity equal to its threshold is ever found above it (or ever below). Raises UserError for bad looks.
    """

    looks: tuple[int, ...]
    error: float = 0.05

    def __post_init__(self) -> None:
        increasing = all(a < b for a, b in pairwise(self.looks))
        if not (self.looks and increasing and 2 <= self.looks[0] and self.looks[-1] <= MAX_SEEDS):
            raise UserError(f"looks {self.text!r}: give increasing numbers of seeds from 2 to {MAX_SEEDS}: {EXAMPLE}")
        if not 0 < self.error < 0.5:
            raise UserError(f"an error of {self.error:g} on one side is not between 0 and 0.5; 0.05 is usual")

    @property
    def text(self) -> str:
        """The looks as `design_from_text` reads them: 3,5,8,12."""
        return ",".join(map(str, self.looks))

    def error_at(self, n: int) -> float:
        """The one-sided error of an interval over n seeds.

        Between two looks (a seed lacks the value) it is the smaller of theirs, so that it errs on the safe side; before
        the first and after the last it is that of the nearest look.
        """
        errors = nominal_errors(self.looks, self.error)
        before = [i for i, look in enumerate(self.looks) if look <= n][-1:]
        after = [i for i, look in enumerate(self.looks) if look >= n][:1]
        return min(errors[i] for i in before + after)

    def level(self, n: int) -> float:
        """The level of the two-sided interval over n seeds: 0.90 for a single look with an error of 0.05."""
        return 1 - 2 * self.error_at(n)

    def looks_taken(self, n: int) -> tuple[int, ...]:
        """The looks that a table with n seeds has had: all up to n; (n,) before the first."""
        return tuple([look for look in self.looks if look <= n]) or (n,)


def fixed(n: int, error: float = 0.05) -> Design:
    """The design that looks once, at n seeds."""
    return Design((n,), error)


def design_from_text(text: str) -> Design:
    """The design whose looks are listed in a text such as "3,5,8,12". Raises UserError for anything else."""
    try:
        return Design(tuple(int(look) for look in text.split(",")))
    except ValueError:
        raise UserError(f"looks {text!r}: give increasing numbers of seeds from 2 to {MAX_SEEDS}: {EXAMPLE}") from None


AUTO = Design((3, 5, 8, 12))
ONE_LOOK = fixed(3)  # a single look has the same level at any number of seeds


def design_of(table: "DataFrame") -> Design:
    """The design that a table of results names in its column `looks` ("3,5,8,12"); one look if it names none.

    Raises UserError if its rows name several: claims have one design, chosen before the numbers.
    """
    named = [str(text) for text in table["looks"].dropna().unique()] if "looks" in table else []
    if len(named) > 1:
        raise UserError(f"the table mixes rows of several designs, looks {' and '.join(named)}; keep those of one")
    return design_from_text(named[0]) if named else ONE_LOOK


def spent_error(fraction: float, error: float) -> float:
    """The part of the error that is spent when this fraction of the seeds is in (Lan and DeMets 1983, Pocock type)."""
    return error * log(1 + (e - 1) * fraction)


# ---- nominal errors ------------------------------------------------------------------------------------------------
@cache
def nominal_errors(looks: tuple[int, ...], error: float) -> tuple[float, ...]:
    """The one-sided errors (len(looks),) of Student's tests whose chance to cross by look k is spent_error at k.

    Where the true mean equals the threshold, the length of the vector of n values is independent of its direction, and
    so of every t statistic up to n. These statistics are therefore a Markov chain in one number, t itself, which is
    integrated backwards: `survival` is the probability, given t at a look, that no look before has crossed.
    """
    from scipy.special import stdtrit

    t = np.sinh(np.linspace(-MOST_ASINH_T, MOST_ASINH_T, T_NODES))
    survival, errors, spent = np.ones(T_NODES), list[float](), 0.0
    for earlier, n in pairwise((0, *looks)):
        if errors:
            bound = float(stdtrit(earlier - 1, 1 - errors[-1]))
            survival = _survival_at_next_look(earlier, n, t, survival, bound)
        to_spend = spent_error(n / looks[-1], error)
        errors.append(_error_that_spends(to_spend - spent, n, t, survival, error))
        spent = to_spend
    return tuple(errors)


def _error_that_spends(amount: float, n: int, t: np.ndarray, survival: np.ndarray, most: float) -> float:
    """The nominal error, at most `most`, at which look n is the first to cross with probability `amount`."""
    from scipy.special import stdtrit

    tail = np.linspace(0, most, TAIL_NODES)
    first_here = np.append(survival[-1], np.interp(stdtrit(n - 1, 1 - tail[1:]), t, survival))
    crossed = np.append(0, np.cumsum((first_here[1:] + first_here[:-1]) / 2)) * tail[1]
    return float(np.interp(amount, crossed, tail))


def _survival_at_next_look(n: int, later: int, t: np.ndarray, survival: np.ndarray, bound: float) -> np.ndarray:
    """The probability, given t at the later look (T,), that no look up to n has crossed.

    survival (T,): that of the looks before n, given t at n; bound: of t at n. A vector of `later` values with this t
    has a fixed part along (1, ..., 1) and a uniform direction around it. The sum of its first n values depends on one
    coordinate of that direction; their spread also on the part of the rest that falls to them.
    """
    along = (t / np.hypot(t, sqrt(later - 1)))[:, None]
    across = np.sqrt(1 - along**2)
    coordinate, part = _direction_nodes(n, later)
    sums = sqrt(n / later) * along + sqrt(1 - n / later) * across * coordinate
    spreads = across * np.sqrt((1 - coordinate**2) * part)
    earlier_t = sqrt(n - 1) * sums / np.maximum(spreads, np.finfo(float).tiny)
    return np.where(earlier_t < bound, np.interp(earlier_t, t, survival), 0.0).mean(axis=1)


def _direction_nodes(n: int, later: int) -> tuple[np.ndarray, np.ndarray]:
    """Equally likely nodes (nodes,) of a coordinate of a uniform direction in later - 1 dimensions, and of the part of
    its other later - 2 dimensions that lies in n - 1 of them, those of the first n values."""
    from scipy.special import betaincinv, stdtrit

    freedom, added = later - 2, later - n
    part = betaincinv((n - 1) / 2, (added - 1) / 2, _middles(PART_NODES)) if added > 1 else np.ones(1)
    t = stdtrit(freedom, _middles(NODES // len(part)))
    coordinates, parts = np.meshgrid(t / np.sqrt(freedom + t**2), part)
    return coordinates.ravel(), parts.ravel()


def _middles(parts: int) -> np.ndarray:
    """The middles of equal parts of [0, 1]."""
    return (np.arange(parts) + 0.5) / parts
