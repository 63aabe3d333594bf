"""How a stage is trained: by lm.train, or, where models are small, by lm.ensemble.train_many in a stack with others or
alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.run import Run, Stage

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.training.train_state import Diverged, Follow, History

Progress = Callable[[int], None]
# a stack pays while calls cost more than arithmetic: tokens of a batch times width. The GPU's number is not measured
LIMITS = {"cpu": 1 << 14, "cuda": 1 << 22}
CHECKPOINTS = 20  # per training: a killed process loses at most a twentieth of it, or 50 steps


def in_stack(run: Run) -> bool:
    """Whether the first training of a run is done by lm.ensemble.train_many, together with others or alone: as it
    rounds otherwise than lm.train, this must not depend on which runs there are."""
    if run.model is None or run.train is None or run.train.accumulate > 1:
        return False
    from lm.ensemble.stacked_model import stackable
    from lm.training.loop import where

    place = where()
    work = run.train.batch * run.train.window * run.model.width
    return place.num_processes == 1 and work <= LIMITS[place.device.type] and stackable(run.model)


def fit(
    run: Run, stage: Stage, model: "Decoder", checkpoint: Path, progress: Progress, follow: "Follow | None"
) -> "History":
    """Train a model in place, going on from the checkpoint where there is one; follow: called with every row. Raises
    what lm.train raises."""
    from lm.training.loop import train

    return train(
        model,
        stage.task,
        stage.train,
        data_seed=run.seeds.data,
        order_seed=run.seeds.order,
        folder=checkpoint,
        checkpoint_every=_every(stage),
        progress=lambda step, steps, loss: progress(step),
        follow=follow,
    )


def fit_in_stack(
    run: Run, stage: Stage, model: "Decoder", checkpoint: Path, progress: Progress, follow: "Follow | None"
) -> "History":
    """As a stack of one, whose rows are followed when it is over. Raises Diverged as `fit`."""
    from lm.ensemble.stacked_model import Unstackable
    from lm.training.train_state import Diverged

    try:
        (history,) = fit_stack([run], [model], [checkpoint], [progress])
    except Unstackable:
        return fit(run, stage, model, checkpoint, progress, follow)
    rows = history.history or () if isinstance(history, Diverged) else history
    if follow is not None:
        for row in rows:
            follow(row)
    if isinstance(history, Diverged):
        raise history
    return history


def fit_stack(
    runs: Sequence[Run], models: "Sequence[Decoder]", checkpoints: Sequence[Path], progress: Sequence[Progress]
) -> "list[History | Diverged]":
    """The first trainings of runs that can be trained together."""
    from lm.ensemble.train_many import train_many

    stages = [run.trainings[0] for run in runs]
    return train_many(
        models,
        [stage.task for stage in stages],
        [stage.train for stage in stages],
        data_seeds=[run.seeds.data for run in runs],
        order_seeds=[run.seeds.order for run in runs],
        folders=checkpoints,
        checkpoint_every=_every(stages[0]),
        progress=lambda number, step: progress[number](step),
    )


def _every(stage: Stage) -> int:
    """Steps between two checkpoints."""
    return max(50, stage.train.steps // CHECKPOINTS)
