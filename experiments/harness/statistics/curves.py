"""What a learning curve says of each seed: when a threshold was reached, and at which height it ended."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame, Series


def steps_to(table: "DataFrame", column: str, threshold: float, below: bool = False) -> "Series":
    """By seed, the first measured step at which the column is at least (with `below`: at most) the threshold and stays
    there at the next measurement; infinite where it never is, so that seeds can be ranked and counted.

    table: the rows of one configuration, one a seed and step. A single value beyond the threshold at the end counts.
    """
    return _by_seed(table, lambda part: _first_step(part, column, threshold, below))


def plateau_of(table: "DataFrame", column: str, last: int = 3) -> "Series":
    """By seed, the mean of the column over the last `last` measured steps."""
    return _by_seed(table, lambda part: float(part[column].iloc[-last:].mean()))


def _first_step(part: "DataFrame", column: str, threshold: float, below: bool) -> float:
    values = part[column].to_numpy(float)
    reached = values <= threshold if below else values >= threshold
    stays = reached & np.append(reached[1:], True)
    return float(part["step"].to_numpy()[stays.argmax()]) if stays.any() else np.inf


def _by_seed(table: "DataFrame", read: Callable[["DataFrame"], float]) -> "Series":
    import pandas

    rows = table.dropna(subset=["step"]).sort_values("step").groupby("seed_init")
    return pandas.Series({seed: read(part) for seed, part in rows}, dtype=float)
