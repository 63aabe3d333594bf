"""Evaluations during training: at which steps they are made, and the plateau at which a training stops."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

from synth.errors import UserError


def log_spaced_steps(steps: int, points: int = 8, first: int | None = None) -> tuple[int, ...]:
    """About `points` steps from `first` (by default a hundredth of `steps`) to `steps`, at equal ratios."""
    first = max(1, steps // 100) if first is None else first
    if not 1 <= first <= steps or points < 2:
        raise UserError(f"no {points} points from step {first} to {steps}; give first from 1 to steps, and 2 points")
    ratio = (steps / first) ** (1 / (points - 1))
    return tuple(sorted({round(first * ratio**k) for k in range(points)}))


@dataclass(frozen=True)
class Plateau:
    """When a training stops: at the first evaluation at which the best value of `metric` among the last `patience` ones
    is not better by at least `min_gain` than the best before them.

    metric: a column of the curve's rows, the mean over those rows of a step that have it; goal: whether
    more or less of it is better. Nothing stops while the best value is worse than `not_before`, if that is given: a
    model that has not begun to learn is on no plateau.
    """

    metric: str
    min_gain: float
    patience: int = 3
    goal: Literal["max", "min"] = "max"
    not_before: float | None = None

    def __post_init__(self) -> None:
        if self.patience < 1 or self.min_gain < 0:
            problem = f"patience={self.patience}, min_gain={self.min_gain:g}"
            raise UserError(f"a plateau cannot have {problem}; give patience of at least 1 and a gain of at least 0")

    def reached(self, values: Sequence[float]) -> bool:
        """Whether a training with these values of the metric, in order, has come to its plateau; NaN is
        worst."""
        sign = 1.0 if self.goal == "max" else -1.0
        worth = [float("-inf") if isnan(value) else sign * value for value in values]
        if len(worth) <= self.patience:
            return False
        before, recent = max(worth[: -self.patience]), max(worth[-self.patience :])
        begun = self.not_before is None or max(before, recent) >= sign * self.not_before
        return begun and (recent <= before or recent < before + self.min_gain)


@dataclass(frozen=True)
class Curve:
    """Evaluations of a run during training.

    steps: optimizer steps, counted over all stages, at which the model is kept and measured (log_spaced_steps); the end
    of the training is always measured. evaluations: what is measured there, cheaper ones for example; () for those of
    the run. until: the plateau at which the last training stops, so that `steps` of it are the most it may take.
    """

    steps: tuple[int, ...]
    evaluations: tuple[Any, ...] = ()
    until: Plateau | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise UserError(f"a curve cannot have steps {self.steps}; give log_spaced_steps(n), or increasing ones")
