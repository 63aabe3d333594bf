"""Rows and columns of a table that an estimate or a figure is made of."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame, Series


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
