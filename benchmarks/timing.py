"""Rates of ours and of others, measured in turns, so that a busy machine slows both alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

Side = Callable[[], float]  # does a piece of work and returns its rate
ROUNDS = 7
PRINTED = ("name", "case", "value", "unit", "peer", "peer_value", "ratio")


@dataclass(frozen=True)
class Row:
    """One case: medians over the rounds. low and high are the least and greatest round, of the ratio where there is a
    peer and of the value where there is none. bar is what we hold ourselves to, on the value or on the ratio."""

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
        """Whether the bar is reached; None without one."""
        reached = self.value if self.bar_on == "value" else self.ratio
        return None if self.bar is None or reached is None else reached >= self.bar

    def printed(self) -> dict[str, Any]:
        """What --json prints."""
        fields = asdict(self)
        return {key: fields[key] for key in PRINTED}


def timed(work: Callable[[], float]) -> Side:
    """The side whose rate is what `work` returns (units done) by the seconds it takes."""

    def side() -> float:
        began = time.perf_counter()
        done = work()
        return done / (time.perf_counter() - began)

    return side


def interleaved(*sides: Side, rounds: int) -> list[list[float]]:
    """The rates of every side: one warm-up each, then A B A B ... for `rounds` rounds."""
    for side in sides:
        side()
    turns = [[side() for side in sides] for _ in range(rounds)]
    return [list(rates) for rates in zip(*turns, strict=True)]


def compared(
    case: str, unit: str, ours: Sequence[float], peer: str | None = None, theirs: Sequence[float] = (), **more: Any
) -> Row:
    """The row of a case from the rates of its rounds; `more` are further fields of Row, threads among them."""
    value = median(ours)
    if peer is None:
        return Row(case, value, unit, None, None, None, min(ours), max(ours), **more)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Row(case, value, unit, peer, median(theirs), value / median(theirs), min(ratios), max(ratios), **more)
