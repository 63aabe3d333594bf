"""Trainings of experiments in a tracker: one run of the tracker for each, under runs/.tracking/<tracker>/."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.run import Run

if TYPE_CHECKING:
    from lm.training.train_state import Follow

FOLDER = ".tracking"


def followed(track: str, run: Run, root: Path, stages: int, key: str) -> "AbstractContextManager[Follow | None]":
    """What shows the training that ends a run's first `stages`, for `with`; key: of the model it makes."""
    from lm.training.trackers import tracking

    stage = [f"stage {stages}"] if run.then else []
    name = " ".join([run.experiment, run.label, *stage, key])
    model = asdict(run.model) if run.model else {}
    settings = {**model, **asdict(run.trainings[stages - 1].train), **asdict(run.seeds), **dict(run.tags)}
    return tracking(track, root / FOLDER / track, name, settings)


def tell(track: str, run: Run, root: Path, key: str, rows: Iterable[Mapping[str, float]]) -> None:
    """Show a first training that is over: those of a group are not followed, as they share their steps."""
    with followed(track, run, root, 1, key) as follow:
        if follow is not None:
            for row in rows:
                follow(row)
