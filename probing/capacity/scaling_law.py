"""Bits per parameter by exposures: the law of Part 3.3 (arXiv 2404.05405, results 1 and 4) as experiment 10 found it.

`python -m experiments.harness.papers.scaling_law` writes scaling_law.csv from that experiment's table. With fewer
exposures than it holds the bits depend on the number of facts as well, and no law of models alone says how many.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

from synth.errors import UserError

SCALING_LAW_CSV = Path(__file__).with_name("scaling_law.csv")


@dataclass(frozen=True)
class ScalingLawPoint:
    """Bits per parameter, with the interval low..high, after `exposures` of each fact. origin: paper, fit or guess."""

    exposures: int
    bits_per_parameter: float
    low: float
    high: float
    origin: str
    source: str
    smallest: float = 0.0
    """Parameters of the smallest and of the largest model that was measured."""
    largest: float = float("inf")


def load_scaling_law(path: Path = SCALING_LAW_CSV) -> list[ScalingLawPoint]:
    """The points of a scaling law file, in order of increasing exposures."""
    with open(path, newline="") as file:
        points = [_parse_point(row) for row in csv.DictReader(file)]
    return sorted(points, key=lambda point: point.exposures)


def _parse_point(row: Mapping[str, str]) -> ScalingLawPoint:
    rate, low, high = (float(row[name]) for name in ("bits_per_parameter", "low", "high"))
    sizes = float(row["smallest"]), float(row["largest"])
    return ScalingLawPoint(int(row["exposures"]), rate, low, high, row["origin"], row["source"], *sizes)


def interpolate(law: Sequence[ScalingLawPoint], exposures: int) -> ScalingLawPoint:
    """The law at a number of exposures: rate and interval linear in the logarithm of the exposures between the two
    measured ones beside it. Raises UserError outside the measured range."""
    if not law[0].exposures <= exposures <= law[-1].exposures:
        first, last = law[0].exposures, law[-1].exposures
        raise UserError(f"--exposures {exposures} is outside what was measured; give {first} to {last}")
    if measured := [point for point in law if point.exposures == exposures]:
        return measured[0]
    above = next(point for point in law if point.exposures > exposures)
    below = law[law.index(above) - 1]
    share = log(exposures / below.exposures) / log(above.exposures / below.exposures)

    def between(a: float, b: float) -> float:
        return round(a + share * (b - a), 4)

    return ScalingLawPoint(
        exposures, between(below.bits_per_parameter, above.bits_per_parameter), between(below.low, above.low),
        between(below.high, above.high), "interpolated", f"between {below.exposures} and {above.exposures} exposures",
        max(below.smallest, above.smallest), min(below.largest, above.largest),
    )  # fmt: skip
