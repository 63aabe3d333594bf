"""When curves reach a threshold, and where they end."""

import math

import pandas
import pytest

from experiments.harness.statistics.curves import plateau_of, steps_to

CURVES = {0: [0.1, 0.9, 0.2, 0.95, 1.0], 1: [0.1, 0.2, 0.3, 0.4, 0.5], 2: [0.0, 0.0, 0.0, 0.0, 0.9]}
TABLE = pandas.DataFrame(
    [
        {"seed_init": seed, "step": 10 * 2**k, "share": share}
        for seed, curve in CURVES.items()
        for k, share in enumerate(curve)
    ]
)


def test_a_threshold_is_reached_where_the_curve_stays_beyond_it() -> None:
    found = steps_to(TABLE.sample(frac=1, random_state=0), "share", 0.9)
    assert list(found) == [80.0, math.inf, 160.0] and list(found.index) == [0, 1, 2]
    assert list(steps_to(TABLE, "share", 0.15, below=True)) == [math.inf, math.inf, 10.0]


def test_a_plateau_is_the_mean_of_the_last_measurements() -> None:
    assert list(plateau_of(TABLE, "share", 2)) == pytest.approx([0.975, 0.45, 0.45])
