"""Fair comparison of architectures: equal parameters, data, budget, seeds and learning rates to choose from.

An architecture is a set of changes to one base ModelConfig. Protocol: Part 4.1 (arXiv 2512.17351), section 3 and
appendix A, which reports the best of a list of learning rates; here the one with the best mean over seeds. It is chosen
on the seeds that are reported, which biases the scores of all architectures upwards if there are several rates. Below
the paper's scale there is one rate for all, which may suit one architecture better than another.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from experiments.harness.papers.numbers import paper_numbers
from experiments.harness.reporting.rows import with_columns
from experiments.harness.statistics.estimates import Estimate, mean_of
from lm.config import ModelConfig
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

SIZE_TOLERANCE = 0.01  # largest difference in parameters, as a share of the base's


# ---- models ----------------------------------------------------------------------------------------------------
def match_parameters(base: ModelConfig, changes: Mapping[str, Any], task: Any) -> ModelConfig:
    """Apply changes to the base, and set d_ff (without an MLP, d_model) to match the base's number of parameters on the
    task.

    The value is a multiple of 8 (d_model: of 8 n_heads) if one comes within 1%, else of 1 (n_heads). Raises UserError,
    with the nearest size, if none does.
    """
    from lm.model_size import num_parameters

    size, model = num_parameters(base, task), replace(base, **changes)
    if num_parameters(model, task) == size:
        return model
    name, unit = ("d_ff", 1) if model.mlp_hidden_dim else ("d_model", model.n_heads)

    def with_width(n: int) -> ModelConfig:
        return replace(model, d_ff=n) if model.mlp_hidden_dim else replace(model, d_model=n)

    def count(n: int) -> int:
        return num_parameters(with_width(n), task)

    def distance(n: int) -> float:  # the number of parameters is linear in d_ff, and a model takes a while to count
        return abs(n - exact) if unit == 1 else abs(count(n) - size)

    exact = _solve_width(count, size, unit, model.mlp_hidden_dim or 4 * model.d_model)
    for step in (8 * unit, unit):
        below = max(int(exact // step) * step, step)
        nearest = min((below, below + step), key=distance)
        if abs(count(nearest) - size) <= SIZE_TOLERANCE * size:
            return with_width(nearest)
    described = ", ".join(f"{name}={value}" for name, value in changes.items()) or "the base itself"
    raise UserError(
        f"no {name} of {described} has the base's {size:,} parameters within {SIZE_TOLERANCE:.0%}; "
        f"the nearest, {nearest}, has {count(nearest):,}; change the base or the architecture"
    )


def _solve_width(count: Any, size: int, unit: int, max_width: int) -> float:
    """Approximate width where `count`, which increases, reaches `size`: linear extrapolation for unit 1 (d_ff),
    bisection over multiples of `unit` up to `max_width` otherwise."""
    if unit == 1:
        first, second = count(1), count(2)
        return 1 + (size - first) / (second - first)
    widths = range(unit, max_width + 1, unit)
    return widths[min(bisect_left(widths, size, key=count), len(widths) - 1)]


# ---- tables ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ScoreColumn:
    """Which column of a table is the score of a task.

    title: of the panel. column: in the rows of `evaluation`. floor: score of a model that knows nothing, a number or
    the name of a column. filters: values of other columns that select rows, e.g. difficulty "all". part_column: column
    whose values are separate parts of the task, e.g. difficulty. limits: the range that the score can take, that of a
    share by default. divisor: column by which the score is divided, if any.
    """

    title: str
    evaluation: str
    column: str
    floor: float | str = 0.0
    filters: tuple[tuple[str, Any], ...] = ()
    part_column: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    divisor: str = ""

    def select(self, table: "DataFrame") -> "DataFrame":
        """The rows of this score, with columns `score`, `floor` and `part` (the value of `part_column`, or "").

        A diverged training scores the floor, in every part; rows without the score are left out.
        """
        columns = [name for name in (self.part_column, self.floor, self.divisor) if name and isinstance(name, str)]
        table = with_columns(table, [self.column, "diverged", *dict(self.filters), *columns])
        table = table[table["evaluation"] == self.evaluation]
        diverged = table["diverged"].eq(True)
        rows = table[~diverged]
        for name, value in self.filters:
            rows = rows[rows[name].astype(str) == str(value)]
        rows = rows.assign(part=rows[self.part_column].astype(str) if self.part_column else "")
        score = rows[self.column] / rows[self.divisor] if self.divisor else rows[self.column]
        rows = rows.assign(score=score, floor=rows[self.floor] if self._floor_is_column else self.floor)
        return _concat([rows.dropna(subset=["score"]), *self._at_floor(table[diverged], rows)])

    @property
    def _floor_is_column(self) -> bool:
        return isinstance(self.floor, str)

    def _at_floor(self, diverged: "DataFrame", rows: "DataFrame") -> "list[DataFrame]":
        """The diverged rows once for every part of the others, with its floor as score."""
        if len(rows):
            floors = dict(rows.groupby("part", sort=False)["floor"].median())
        else:  # all diverged: the parts are unknown
            floors = {} if self.part_column else {"": 0.0 if self._floor_is_column else self.floor}
        return [diverged.assign(part=part, score=floor, floor=floor) for part, floor in floors.items()]


def select_scores(table: "DataFrame", scores: Mapping[str, ScoreColumn]) -> "DataFrame":
    """Concatenate the rows of the scores of several tasks (column `task`)."""
    return _concat([score.select(table[table["task"] == task]) for task, score in scores.items()])


def _concat(tables: "Sequence[DataFrame]") -> "DataFrame":
    import pandas

    return pandas.concat([part for part in tables if len(part)] or list(tables[:1]), ignore_index=True)


def at_best_lr(table: "DataFrame", by: Sequence[str], column: str = "score") -> "DataFrame":
    """The rows with each group's best learning rate (column `lr`), by the mean over seeds. by: columns of a group."""
    best = []
    for _, group in table.groupby(list(by), sort=False):
        means = group.groupby("lr")[column].mean()
        best.append(group[group["lr"] == means.idxmax()])
    return _concat(best) if best else table


def diverged_note(table: "DataFrame") -> str:
    """End of a title with the number of diverged runs; "" if none did."""
    if "diverged" not in table:
        return ""
    n = table.loc[table["diverged"].eq(True), "run"].nunique()
    return f"; {n} of {table['run'].nunique()} runs diverged and count as the floor" if n else ""


# ---- statistics ------------------------------------------------------------------------------------------------
def paired_differences(table: "DataFrame", a: str, b: str, by: str = "architecture") -> "Series":
    """Score of a minus that of b for each seed: the mean over tasks and parts that both have. Seeds that lack some of
    these are left out."""
    keys = [*(name for name in ("task", "part") if name in table), "seed_init"]
    score_a, score_b = (table[table[by] == name].groupby(keys)["score"].mean() for name in (a, b))
    pairs = (score_a - score_b).dropna().groupby("seed_init")
    return pairs.mean()[pairs.size() == pairs.size().max()]


def paired_gain(
    table: "DataFrame", a: str, b: str, by: str = "architecture", limits: tuple[float, float] = (0.0, 1.0)
) -> Estimate | None:
    """The mean over seeds of `paired_differences`; None if no seed has both. limits: the range of one score."""
    low, high = limits
    return mean_of(paired_differences(table, a, b, by), low - high, high - low)


# ---- the papers' scores ----------------------------------------------------------------------------------------
# of the largest size of each task; Depo's is the mean over its most steps and half of them
PAPER_COLUMNS = {
    "depo": ("Depo1, all steps", "Depo1, half of the steps"),
    "brevo": ("Brevo1",),
    "mano": ("Mano",),
    "cfg": ("cfg3k",),
}


def paper_scores(place: str) -> dict[str, dict[str, float]]:
    """The scores (shares) that Part 4.1 gives at a place, such as "Figure 27", by task and architecture; where a column
    of a task is missing there, its architecture is left out."""
    cells = paper_numbers("4.1", place)
    names = list(dict.fromkeys(row for row, _ in cells))
    return {
        task: {
            name: sum(cells[name, column] for column in columns) / len(columns)
            for name in names
            if all((name, column) in cells for column in columns)
        }
        for task, columns in PAPER_COLUMNS.items()
    }
