"""What the log of a training says beside its last loss: whether it rose on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SPIKE = 0.1  # of the first logged loss: how far above the lowest so far a loss must rise to be called a spike


@dataclass(frozen=True)
class TrainingLog:
    """An evaluation that asks the model nothing: its row holds what `of_history` finds."""

    def measure(self, *_: Any) -> dict[str, Any]:
        return {}

    def of_history(self, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """spikes: how often the loss (a mean of ten steps) rose by a tenth of the first one above the lowest so far;
        rise: the largest such rise in nats."""
        losses = [row["loss"] for row in history]
        rises = _rises(losses)
        high = [rise > SPIKE * losses[0] for rise in rises]
        starts = (now and not before for before, now in zip([False, *high], high, strict=False))
        return {"spikes": sum(starts), "rise": max(rises)}


def _rises(losses: Sequence[float]) -> list[float]:
    lowest, rises = losses[0], []
    for loss in losses:
        lowest = min(lowest, loss)
        rises.append(loss - lowest)
    return rises
