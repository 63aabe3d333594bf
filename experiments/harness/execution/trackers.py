"""Experiment trackers: every training is one run of the tracker, under runs/.tracking/<tracker>/."""

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.run import Run

if TYPE_CHECKING:
    from lm.training.history import OnLog

TRACKING_DIR = ".tracking"


def tracker_for(
    tracker: str, run: Run, root: Path, num_stages: int, key: str
) -> "AbstractContextManager[OnLog | None]":
    """Context manager that opens the tracker of the last of `num_stages` stages; key: the model's cache key."""
    from lm.training.trackers import open_tracker

    stage = [f"stage {num_stages}"] if run.later_stages else []
    name = " ".join([run.experiment, run.label, *stage, key])
    model = asdict(run.model) if run.model else {}
    settings = {**model, **asdict(run.stages[num_stages - 1].train), **asdict(run.seeds), **dict(run.tags)}
    return open_tracker(tracker, root / TRACKING_DIR / tracker, name, settings)
