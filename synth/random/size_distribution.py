"""How large a problem is: the sizes of the synthetic playground (Physics of Language Models, Part 4.1, appendix A).

A problem of size n, with least <= n <= N, has a probability proportional to 1 / (n + sqrt(N)), as in the released
generators and in the paper's formula; its word "uniform" beside the formula is a slip. Small problems are more frequent
than large ones, and models are tested on the largest alone.
"""

import numpy as np

from synth.errors import UserError


def check_sizes(task: str, name: str, least: int, most: int, smallest: int = 1) -> None:
    """Raise UserError unless smallest <= least <= most; `name` is the field that holds `most`."""
    if not smallest <= least <= most:
        raise UserError(f"{task}: least={least}, {name}={most} leave no sizes; give {smallest} <= least <= {name}")


def chances(least: int, most: int) -> np.ndarray:
    """The probability (S,) of each size least, least + 1, ..., most."""
    weights = 1 / (np.arange(least, most + 1) + np.sqrt(most))
    return weights / weights.sum()


def cumulative(least: int, most: int) -> np.ndarray:
    """Sums (S,) of `chances` that end in exactly 1: u in [0, 1) stands for size least + the number of sums <= u."""
    sums = np.cumsum(chances(least, most))
    sums[-1] = 1.0
    return sums
