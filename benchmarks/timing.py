"""Measuring the rates of several sides in turns, so that a busy machine slows all of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

RateFunction = Callable[[], float]  # does some work and returns its rate, in units/s
ROUNDS = 7
PRINTED = ("name", "case", "value", "unit", "peer", "peer_value", "ratio")


@dataclass(frozen=True)
class Row:
    """One case: medians over the rounds; low and high are the extremes, of the ratio (of the value without a peer).

    bar: target for the value or the ratio, as `bar_on` says.
    """

    case: str
    value: float
    unit: str
    peer: str | None
    peer_value: float | None
    ratio: float | None
    low: float
    high: float
    threads: int
    bar: float | None = None
    bar_on: Literal["value", "ratio"] = "ratio"
    device: str = "cpu"
    name: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None if there is none."""
        reached = self.value if self.bar_on == "value" else self.ratio
        return None if self.bar is None or reached is None else reached >= self.bar

    def to_json(self) -> dict[str, Any]:
        """The fields that --json prints."""
        fields = asdict(self)
        return {key: fields[key] for key in PRINTED}


def rate_of(work: Callable[[], float]) -> RateFunction:
    """A measurement of the units that `work` returns per second."""

    def side() -> float:
        began = time.perf_counter()
        done = work()
        return done / (time.perf_counter() - began)

    return side


def measure_in_turns(*sides: RateFunction, rounds: int) -> list[list[float]]:
    """The rates of each side over the rounds (A B A B ...), after one warm-up each."""
    for side in sides:
        side()
    turns = [[side() for side in sides] for _ in range(rounds)]
    return [list(rates) for rates in zip(*turns, strict=True)]


def compare(
    case: str, unit: str, ours: Sequence[float], peer: str | None = None, theirs: Sequence[float] = (), **more: Any
) -> Row:
    """The row of a case from the rates of its rounds; more: further fields of Row, such as threads."""
    value = median(ours)
    if peer is None:
        return Row(case, value, unit, None, None, None, min(ours), max(ours), **more)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(case, value, unit, peer, median(theirs), value / median(theirs), min(ratios), max(ratios), **more)
