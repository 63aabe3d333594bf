"""Architectures compared fairly: as many parameters, the same data, budget and seeds, the same rates to choose from.

An architecture is a set of changes to one base ModelConfig. Protocol: Part 4.1 (arXiv 2512.17351), section 3 and
appendix A, which reports the best of a list of learning rates; here that is the rate with the best mean over seeds. It
is chosen on the seeds that are then reported, so that scores are a little too good where there are several rates, and
for all architectures alike.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from experiments.harness.papers.part3_capacity import parameters_of
from experiments.harness.reporting.stats import (
    Interval,
    holm,
    interval,
    interval_if_any,
    sign_flip_test,
    with_columns,
)
from lm.config import ModelConfig
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ALIKE = 0.01  # sizes may differ by this share of the base's


# ---- models ----------------------------------------------------------------------------------------------------
def matched(base: ModelConfig, changes: Mapping[str, Any], task: Any) -> ModelConfig:
    """The base with these changes, as wide in its MLP (or where it has none, as wide) as makes the parameters alike.

    A multiple of 8 where that comes within 1% of the base's parameters, else the nearest. Raises UserError with the
    nearest size when none does.
    """
    size, model = parameters_of(base, task), replace(base, **changes)
    if parameters_of(model, task) == size:
        return model
    name, unit = ("mlp_width", 1) if model.hidden_width else ("width", model.heads)

    def sized(n: int) -> ModelConfig:
        return replace(model, mlp_width=n) if model.hidden_width else replace(model, width=n)

    def count(n: int) -> int:
        return parameters_of(sized(n), task)

    exact = _crossing(count, size, unit, model.hidden_width or 4 * model.width)
    for step in (8 * unit, unit):
        below = max(int(exact // step) * step, step)
        near = min((below, below + step), key=lambda n: abs(count(n) - size))
        if abs(count(near) - size) <= ALIKE * size:
            return sized(near)
    raise UserError(
        f"no {name} of {_words(changes)} has the base's {size:,} parameters within {ALIKE:.0%}; the nearest, {near}, "
        f"has {count(near):,}; change the base or the architecture"
    )


def _crossing(count: Any, size: int, unit: int, top: int) -> float:
    """About where the count, which rises with its argument, reaches the size: on a line where it is one, as with the
    width of an MLP, else by bisection over multiples of `unit` up to `top`."""
    if unit == 1:
        least, next_ = count(1), count(2)
        return 1 + (size - least) / (next_ - least)
    steps = range(unit, top + 1, unit)
    return steps[min(bisect_left(steps, size, key=count), len(steps) - 1)]


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items()) or "the base itself"


# ---- tables ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Score:
    """The number that stands for a task, in a table of several evaluations.

    column of the rows of `evaluation`; rows: values of further columns that it is read from, e.g. difficulty "all";
    by: a column whose values are kept apart, e.g. difficulty; floor: what knowing nothing scores, a number or the name
    of a column; solved: from where on a seed counts as having solved the task.
    """

    title: str
    evaluation: str
    column: str
    floor: float | str = 0.0
    rows: tuple[tuple[str, Any], ...] = ()
    by: str = ""
    solved: float = 0.9

    def of(self, table: "DataFrame") -> "DataFrame":
        """The rows of this score, with columns `score` and `floor`, and `part`, the value of `by`. A training that
        diverged counts as the floor, in every part; rows without the number are left out."""
        named = [name for name in (self.by, self.floor) if name and isinstance(name, str)]
        table = with_columns(table, [self.column, "diverged", *dict(self.rows), *named])
        table = table[table["evaluation"] == self.evaluation]
        lost = table["diverged"].eq(True)
        kept = table[~lost]
        for name, value in self.rows:
            kept = kept[kept[name].astype(str) == str(value)]
        kept = kept.assign(part=kept[self.by].astype(str) if self.by else "")
        kept = kept.assign(score=kept[self.column], floor=kept[self.floor] if self._column else self.floor)
        return _stacked([kept.dropna(subset=["score"]), *self._lost(table[lost], kept)])

    @property
    def _column(self) -> bool:
        return isinstance(self.floor, str)

    def _lost(self, table: "DataFrame", kept: "DataFrame") -> "list[DataFrame]":
        nothing = {} if self.by else {"": 0.0 if self._column else self.floor}  # where all diverged, nobody says parts
        floors = kept.groupby("part", sort=False)["floor"].median() if len(kept) else nothing
        return [table.assign(part=part, score=floor, floor=floor) for part, floor in dict(floors).items()]


def scored(table: "DataFrame", scores: Mapping[str, Score]) -> "DataFrame":
    """The rows of the scores of several tasks (column `task`), one below the other."""
    return _stacked([score.of(table[table["task"] == task]) for task, score in scores.items()])


def _stacked(tables: "Sequence[DataFrame]") -> "DataFrame":
    import pandas

    return pandas.concat([part for part in tables if len(part)] or list(tables[:1]), ignore_index=True)


def chosen(table: "DataFrame", by: Sequence[str], column: str = "score") -> "DataFrame":
    """The rows of each group's best learning rate (column `lr`), by its mean over these same seeds; a group is one of
    `by`."""
    keep = []
    for _, part in table.groupby(list(by), sort=False):
        means = part.groupby("lr")[column].mean()
        keep.append(part[part["lr"] == means.idxmax()])
    return _stacked(keep) if keep else table


def diverged(table: "DataFrame") -> str:
    """The end of a title: how many runs diverged and count as the floor; nothing when none did."""
    if "diverged" not in table:
        return ""
    n = table.loc[table["diverged"].eq(True), "run"].nunique()
    return f"; {n} of {table['run'].nunique()} runs diverged and count as the floor" if n else ""


# ---- statistics ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Summary:
    """One architecture on one task over seeds: median, mean with its 95% interval, share of seeds that solved it."""

    median: float
    mean: Interval
    solved: float


def summary(values: "Series", solved: float) -> Summary:
    """The summary of the seeds' scores; `solved`: from where on one counts as solved."""
    return Summary(float(values.median()), interval(values), float((values >= solved).mean()))


def differences(table: "DataFrame", a: str, b: str, by: str = "architecture") -> "Series":
    """a minus b by seed: the mean over the tasks (and parts) that both have, for the seeds that have all of these."""
    keys = [*(name for name in ("task", "part") if name in table), "seed_init"]
    one, two = (table[table[by] == name].groupby(keys)["score"].mean() for name in (a, b))
    pairs = (one - two).dropna().groupby("seed_init")
    return pairs.mean()[pairs.size() == pairs.size().max()]


def gain(table: "DataFrame", a: str, b: str, by: str = "architecture") -> Interval | None:
    """The interval over seeds of `differences`; None where no seed has both."""
    return interval_if_any(differences(table, a, b, by))


def against(table: "DataFrame", reference: str, by: str = "architecture") -> dict[str, float]:
    """For every other architecture, the p-value of "no different from the reference" by a paired sign-flip test over
    seeds, with Holm's correction for their number. Five seeds cannot give less than 0.0625 each."""
    found = {}
    for name in dict.fromkeys(table[by]):
        pairs = differences(table, name, reference, by) if name != reference else []
        if len(pairs) > 1:
            found[name] = sign_flip_test(pairs, [0.0] * len(pairs))
    return holm(found)
