"""Distribution of problem sizes in the synthetic playground (Physics of Language Models, Part 4.1, appendix A).

Size n in min_size..N has a probability proportional to 1 / (n + sqrt(N)), as in the released generators and the paper's
formula (the word "uniform" beside the formula is a slip). Models are tested on the largest size only.
"""

import numpy as np

from synth.errors import UserError


def check_sizes(task: str, max_field: str, min_size: int, max_size: int, lower_bound: int = 1) -> None:
    """Raise UserError unless lower_bound <= min_size <= max_size; max_field is the task's name for max_size."""
    if not lower_bound <= min_size <= max_size:
        raise UserError(
            f"{task}: least={min_size}, {max_field}={max_size} leave no sizes; "
            f"give {lower_bound} <= least <= {max_field}"
        )


def size_probabilities(min_size: int, max_size: int) -> np.ndarray:
    """Probability (S,) of each size min_size..max_size."""
    weights = 1 / (np.arange(min_size, max_size + 1) + np.sqrt(max_size))
    return weights / weights.sum()


def cumulative_probabilities(min_size: int, max_size: int) -> np.ndarray:
    """Cumulative sums (S,) of `size_probabilities`; the last is exactly 1."""
    sums = np.cumsum(size_probabilities(min_size, max_size))
    sums[-1] = 1.0
    return sums
