"""Train each stage once and cache the model for runs that differ only later.

A training holds the lock of its model and resumes from the last checkpoint of a killed one (model_cache.py).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments.harness.atomic_io import quarantine
from experiments.harness.execution.distributed import train_on_all_ranks
from experiments.harness.execution.fit import StepCallback, fit, name_tokens
from experiments.harness.execution.model_cache import (
    TrainedModel,
    TrainingRecord,
    checkpoint_dir,
    load_cached,
    load_cached_or_none,
    model_dir,
    model_lock,
    store_model,
)
from experiments.harness.execution.snapshots import StageSnapshots, stage_snapshots
from experiments.harness.execution.trackers import tracker_for
from experiments.harness.run import Rows, Run, Stage
from synth.errors import UserError
from synth.mixture import main_part, shared_vocab

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.training.history import Diverged, History, OnLog

T = TypeVar("T")


def check_stages(run: Run) -> None:
    """Raise UserError for stages without a common vocabulary, or for LoRA without peft, before anything is trained."""
    shared_vocab([run.task, *(stage.task for stage in run.later_stages)])
    for stage in run.stages:
        if stage.frozen_names:
            name_tokens(stage.task)
    if any(stage.lora_rank for stage in run.later_stages):
        from lm.transforms.lora import require_peft

        require_peft()


def train_or_load(
    run: Run, root: Path, wait: bool, on_step: StepCallback, num_stages: int | None = None, tracker: str = ""
) -> TrainedModel | None:
    """The model after the first `num_stages` (default: all) stages of a run, from the cache or trained now.

    on_step: called with the number of optimizer steps done, those of earlier stages included. tracker: a tracker of
    lm.training.trackers, or "" for none. wait: whether to wait while another process trains the model; if False, None
    is returned instead. Locks are taken from the last stage to the first, so that processes cannot deadlock. A damaged
    model is put aside and trained again. A training that diverges is recorded without a model and ends the run.
    """
    num_stages = len(run.stages) if num_stages is None else num_stages
    if num_stages == 0:
        return TrainedModel(_start(run))
    folder = model_dir(run, root, num_stages)
    if trained := load_cached_or_none(folder):
        return trained
    with model_lock(folder, wait) as acquired:
        if not acquired:
            return None
        if trained := load_cached_or_none(folder):  # by the process that we waited for
            return trained
        before = train_or_load(run, root, wait, on_step, num_stages - 1, tracker)
        if before is None or before.diverged is not None:
            return before
        return _train_and_store(run, folder, num_stages, before, on_step, tracker)


def _start(run: Run) -> "Decoder":
    from lm.model import build
    from lm.training.loop import dist_context

    assert run.model is not None
    model = build(run.model, run.model.model_vocab_size(run.task.vocab()), run.seeds.init)
    return model.to(dist_context().device)


def _train_and_store(
    run: Run, folder: Path, num_stages: int, before: TrainedModel, on_step: StepCallback, tracker: str
) -> TrainedModel:
    """Train stage `num_stages` and cache the model. It is loaded from disk, so that a table does not depend on which
    run came first."""
    done = sum(earlier.train.steps for earlier in run.stages[: num_stages - 1])
    stage = run.stages[num_stages - 1]
    follow = tracker_for(tracker, run, folder.parents[1], num_stages, folder.name)
    with follow as on_log, train_on_all_ranks(run, num_stages):
        checkpoint, snapshots = checkpoint_dir(folder), stage_snapshots(run, folder.parents[1], num_stages - 1)
        model, record = train_stage(
            run, stage, before.model, checkpoint, snapshots, lambda step: on_step(done + step), on_log
        )
    store_model(run, folder, num_stages, model, (*before.records, record))
    return load_cached(folder)


def train_stage(
    run: Run,
    stage: Stage,
    model: "Decoder",
    checkpoint: Path,
    snapshots: StageSnapshots,
    on_step: StepCallback,
    on_log: "OnLog | None" = None,
) -> "tuple[Decoder, TrainingRecord]":
    """Train one stage; return the model and the stage's record. Every rank must call it (distributed.py)."""
    from lm.training.history import Diverged
    from lm.transforms.lora import add_lora, merge_lora

    rank, embed_rank = stage.lora_rank, stage.lora_embed_rank
    model = add_lora(model, rank, embed_rank, run.seeds.init) if rank else model.train()
    try:
        history = _retry_damaged_checkpoint(lambda: fit(run, stage, model, checkpoint, snapshots, on_step, on_log))
    except Diverged as error:
        return model, _record(run, stage, error)
    return merge_lora(model) if rank else model, _record(run, stage, history)


def join_training(run: Run, stage_number: int, runs_dir: Path) -> None:
    """Train a stage (numbered from 1) as a follower; the leader stores the model. Raises UserError if this machine does
    not see the leader's folder of runs."""
    if stage_number > 1 and not model_dir(run, runs_dir, stage_number - 1).exists():
        mend = "give --runs-dir one that all machines share"
        raise UserError(f"{runs_dir} is not the folder that the first rank has; {mend}")
    before = train_or_load(run, runs_dir, True, _ignore_step, stage_number - 1)
    assert before is not None
    checkpoint = checkpoint_dir(model_dir(run, runs_dir, stage_number))
    snapshots = stage_snapshots(run, runs_dir, stage_number - 1)
    train_stage(run, run.stages[stage_number - 1], before.model, checkpoint, snapshots, _ignore_step)


def _ignore_step(step: int) -> None:
    """The leader shows the progress of all ranks."""


def _retry_damaged_checkpoint(work: Callable[[], T]) -> T:
    """Call `work` until no checkpoint is damaged; a damaged one is put aside and its training begins again."""
    from lm.training.checkpoint import DamagedCheckpoint
    from lm.training.loop import dist_context

    while True:
        try:
            return work()
        except DamagedCheckpoint as error:
            ranks = dist_context()
            if ranks.is_main_process:
                quarantine(error.folder.parents[1], "holds a damaged checkpoint", "its training begins again")
            ranks.wait_for_everyone()


def _record(run: Run, stage: Stage, history: "History | Diverged") -> TrainingRecord:
    from lm.training.history import Diverged

    if isinstance(history, Diverged):
        return {"rows": list(history.history or ()), "exposures": None, "diverged": history.step}
    record: TrainingRecord = {"rows": list(history), "exposures": None}
    if history.exposures is not None:
        part = main_part(stage.task)
        seen = history.exposures[: part.num_items(part.world(run.seeds.data))]
        record["exposures"] = [float(seen.mean()), int(seen.min()), int(seen.max())]
    return record


def concatenate_histories(records: tuple[TrainingRecord, ...]) -> Rows:
    """The rows of all stages in order; step, tokens, documents and seconds count from the start of the first stage.

    With several stages every row has a column `stage` (0, 1, ...).
    """
    rows: Rows = []
    for number, record in enumerate(records):
        before = rows[-1] if rows else {}
        stage = {"stage": number} if len(records) > 1 else {}
        for row in record["rows"]:
            sums = {key: row[key] + before.get(key, 0) for key in ("step", "tokens", "documents", "seconds")}
            rows.append({**row, **sums, **stage})
    return rows
