"""Train one stage by lm.train, or small models, one or several, by lm.ensemble.train_many."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.execution.snapshots import StageSnapshots
from experiments.harness.run import Run, Stage

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.training.history import Diverged, History, OnLog

StepCallback = Callable[[int], None]
# largest tokens per batch * d_model where an ensemble is faster (kernel launches dominate); cuda: not measured
MAX_ENSEMBLE_WORK = {"cpu": 1 << 14, "cuda": 1 << 22}
CHECKPOINTS_PER_TRAINING = 20  # a killed process loses at most a twentieth of it, or 50 steps


def uses_ensemble(run: Run) -> bool:
    """Whether the first stage of a run is trained by lm.ensemble.train_many, even when it is alone.

    Its rounding differs from lm.train's, so the answer must not depend on the other runs.
    """
    if run.model is None or run.train is None or run.train.grad_accum_steps > 1:
        return False
    from lm.ensemble.stacked_model import is_stackable
    from lm.training.loop import dist_context

    ranks = dist_context()
    work = run.train.batch_size * run.train.seq_len * run.model.d_model
    return ranks.num_processes == 1 and work <= MAX_ENSEMBLE_WORK[ranks.device.type] and is_stackable(run.model)


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
    )


def fit_ensemble_of_one(
    run: Run,
    stage: Stage,
    model: "Decoder",
    checkpoint: Path,
    snapshots: StageSnapshots,
    on_step: StepCallback,
    on_log: "OnLog | None",
) -> "History":
    """Like `fit`, with lm.ensemble.train_many; rows are logged when the training is over."""
    from lm.ensemble.stacked_model import Unstackable
    from lm.training.history import Diverged

    try:
        (history,) = fit_ensemble([run], [model], [checkpoint], [snapshots], [on_step])
    except Unstackable:
        return fit(run, stage, model, checkpoint, snapshots, on_step, on_log)
    rows = history.history or () if isinstance(history, Diverged) else history
    if on_log is not None:
        for row in rows:
            on_log(row)
    if isinstance(history, Diverged):
        raise history
    return history


def fit_ensemble(
    runs: Sequence[Run],
    models: "Sequence[Decoder]",
    checkpoints: Sequence[Path],
    snapshots: Sequence[StageSnapshots],
    step_callbacks: Sequence[StepCallback],
) -> "list[History | Diverged]":
    """Train the first stage of several runs together, in place; a model that diverged has its error as history."""
    from lm.ensemble.train_many import train_many

    stages = [run.stages[0] for run in runs]
    return train_many(
        models,
        [stage.task for stage in stages],
        [stage.train for stage in stages],
        data_seeds=[run.seeds.data for run in runs],
        order_seeds=[run.seeds.order for run in runs],
        folders=checkpoints,
        checkpoint_every=_checkpoint_interval(stages[0]),
        on_step=lambda number, step: step_callbacks[number](step),
        snapshot_steps=snapshots[0].steps,  # the same for all (grouping.py)
        on_snapshot=lambda number, step, model: snapshots[number].keep_and_decide(step, model),
    )


def _checkpoint_interval(stage: Stage) -> int:
    """Steps between two checkpoints."""
    return max(50, stage.train.steps // CHECKPOINTS_PER_TRAINING)
