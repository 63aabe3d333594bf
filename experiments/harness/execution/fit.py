"""Train one stage by lm.train."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.execution.snapshots import StageSnapshots
from experiments.harness.run import Run, Stage
from synth.errors import UserError
from synth.mixture import main_part
from synth.task import TrainingData

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.training.history import History, OnLog

StepCallback = Callable[[int], None]
CHECKPOINTS_PER_TRAINING = 20  # a killed process loses at most a twentieth of it, or 50 steps


def fit(
    run: Run,
    stage: Stage,
    model: "Decoder",
    checkpoint: Path,
    snapshots: StageSnapshots,
    on_step: StepCallback,
    on_log: "OnLog | None",
) -> "History":
    """Train a model in place with lm.train, resuming from the checkpoint if there is one, and return its history.

    on_log: called with every row of the history. Raises what lm.train raises, Diverged among them.
    """
    from lm.training.loop import train

    return train(
        model,
        stage.task,
        stage.train,
        data_seed=run.seeds.data,
        order_seed=run.seeds.order,
        folder=checkpoint,
        checkpoint_every=_checkpoint_interval(stage),
        on_step=lambda step, steps, loss: on_step(step),
        on_log=on_log,
        snapshot_steps=snapshots.steps,
        on_snapshot=snapshots.keep_and_decide,
        frozen_tokens=name_tokens(stage.task) if stage.frozen_names else (),
    )


def name_tokens(task: TrainingData) -> list[int]:
    """The ids of all words of people's names. Raises UserError for a task without people."""
    names = getattr(getattr(main_part(task), "lexicon", None), "names", None)
    if names is None:
        raise UserError(f"{task.key} has no people whose names could stay as they are; leave frozen_names out")
    return sorted({int(token) for part in names for token in part})


def _checkpoint_interval(stage: Stage) -> int:
    """Steps between two checkpoints."""
    return max(50, stage.train.steps // CHECKPOINTS_PER_TRAINING)
