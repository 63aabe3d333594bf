"""Loss spikes in the history of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SPIKE_THRESHOLD = 0.1  # excess over the running minimum, as a share of the first logged loss


@dataclass(frozen=True)
class LossSpikes:
    """Evaluation of the training history alone, not of the model."""

    identity_name = "TrainingLog"

    def measure(self, *_: Any) -> dict[str, Any]:
        return {}

    def measure_history(self, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """spikes: how often the logged loss (a mean of ten steps) came to exceed its running minimum by a tenth of the
        first one; rise: the largest excess over the running minimum, in nats."""
        losses = [row["loss"] for row in history]
        rises = _rises(losses)
        in_spike = [rise > SPIKE_THRESHOLD * losses[0] for rise in rises]
        starts = (now and not before for before, now in zip([False, *in_spike], in_spike, strict=False))
        return {"spikes": sum(starts), "rise": max(rises)}


def _rises(losses: Sequence[float]) -> list[float]:
    lowest, rises = losses[0], []
    for loss in losses:
        lowest = min(lowest, loss)
        rises.append(loss - lowest)
    return rises
