"""Trainings, each done once: not again for another evaluation, and not for another finetuning.

A training is done under runs/.locks/model-<key>, from the last checkpoint that a killed one has left; what it makes is
kept in runs/.models/ (kept.py).
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments.harness.atomic_io import locked, put_aside
from experiments.harness.execution.distributed import together
from experiments.harness.execution.fit import Progress, fit, fit_in_stack, fit_stack, in_stack
from experiments.harness.execution.model_cache import (
    Record,
    Trained,
    checkpoint_of,
    find,
    folder_of,
    keep,
    key_of,
    read,
)
from experiments.harness.execution.trackers import followed, tell
from experiments.harness.run import Rows, Run, Stage
from synth.mixture import main_part, one_vocab

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.training.train_state import Diverged, Follow, History

__all__ = ["check", "folder_of", "key_of", "rows_of", "train_together", "trained"]

Made = TypeVar("Made")


def check(run: Run) -> None:
    """Raise UserError for trainings that could not be done one after another, before the first takes its time."""
    one_vocab([run.task, *(stage.task for stage in run.then)])
    if any(stage.rank for stage in run.then):
        from lm.transforms.lora import require_peft

        require_peft()


def trained(
    run: Run, root: Path, wait: bool, progress: Progress, stages: int | None = None, track: str = ""
) -> Trained | None:
    """The model after the first `stages` (default: all) trainings of a run, kept or made now.

    progress is called with the number of optimizer steps done, also of the stages before; track: a tracker of
    lm.training.trackers, or "", in which the trainings that are done now are shown. Another process's training is
    waited for, or, with wait=False, given up: the result is then None. Locks are taken from the last stage to the
    first, so that processes never wait for each other. A damaged model is put aside and made anew. A training that
    diverges is recorded as one and leaves no model; those that were to follow are left out.
    """
    stages = len(run.trainings) if stages is None else stages
    if stages == 0:
        return Trained(_start(run))
    folder = folder_of(run, root, stages)
    if kept := find(folder):
        return kept
    with locked(root / ".locks" / f"model-{folder.name}", wait) as mine:
        if not mine:
            return None
        if kept := find(folder):  # the process that we waited for has made it
            return kept
        before = trained(run, root, wait, progress, stages - 1, track)
        if before is None or before.diverged is not None:
            return before
        return _make(run, folder, stages, before, progress, track)


def _start(run: Run) -> "Decoder":
    from lm.model import build
    from lm.training.loop import where

    assert run.model is not None
    return build(run.model, run.model.ids(run.task.vocab()), run.seeds.init).to(where().device)


def _make(run: Run, folder: Path, stages: int, before: Trained, progress: Progress, track: str) -> Trained:
    """Train the last of the stages and keep the model. It is then read from the disk, so that a table does not depend
    on which of its runs came first."""
    done = sum(earlier.train.steps for earlier in run.trainings[: stages - 1])
    stage = run.trainings[stages - 1]
    stacked = stages == 1 and in_stack(run)  # too small for several ranks to pay
    how, others = (fit_in_stack, nullcontext()) if stacked else (fit, together(run, stages))
    with followed(track, run, folder.parents[1], stages, folder.name) as follow, others:
        fit_to = (checkpoint_of(folder), lambda step: progress(done + step), follow)
        model, record = train_stage(run, stage, before.model, how, *fit_to)
    keep(run, folder, stages, model, (*before.records, record))
    return read(folder)


def train_stage(
    run: Run,
    stage: Stage,
    model: "Decoder",
    how: Callable[..., "History"],
    checkpoint: Path,
    progress: Progress,
    follow: "Follow | None" = None,
) -> "tuple[Decoder, Record]":
    """The model after a stage, and the stage's record; with `fit`, all ranks that there are must call it (ranks.py)."""
    from lm.training.train_state import Diverged
    from lm.transforms.lora import adapt, merged

    model = adapt(model, stage.rank, stage.embed_rank, run.seeds.init) if stage.rank else model.train()
    try:
        history = _despite_damage(lambda: how(run, stage, model, checkpoint, progress, follow))
    except Diverged as error:
        return model, _record(run, stage, error)
    return merged(model) if stage.rank else model, _record(run, stage, history)


def _despite_damage(work: Callable[[], Made]) -> Made:
    """What it returns; a checkpoint that is not whole is put aside, and that training begins again."""
    from lm.training.checkpoint import Damaged
    from lm.training.loop import where

    while True:
        try:
            return work()
        except Damaged as error:
            place = where()
            if place.is_main_process:
                put_aside(error.folder.parents[1], "holds a damaged checkpoint", "its training begins again")
            place.wait_for_everyone()


def _record(run: Run, stage: Stage, history: "History | Diverged") -> Record:
    from lm.training.train_state import Diverged

    if isinstance(history, Diverged):
        return {"rows": list(history.history or ()), "exposures": None, "diverged": history.step}
    record: Record = {"rows": list(history), "exposures": None}
    if history.exposures is not None:
        part = main_part(stage.task)
        seen = history.exposures[: part.items(part.world(run.seeds.data))]
        record["exposures"] = [float(seen.mean()), int(seen.min()), int(seen.max())]
    return record


def train_together(runs: Sequence[Run], root: Path, progress: Sequence[Progress], track: str = "") -> None:
    """Train the first stage of several runs at once and keep the models, so that `trained` finds them.

    progress: for each run, called with the number of its steps done; track: as in `trained`, but each training is shown
    when all are over. What is kept, or at work in another process, is left out. Does nothing where less than two are to
    be trained, or they cannot be trained together.
    """
    from lm.ensemble.stacked_model import Unstackable

    with ExitStack() as stack:
        todo: dict[Path, tuple[Run, Progress]] = {}
        for run, told in zip(runs, progress, strict=True):
            folder = folder_of(run, root, 1)
            if folder in todo or folder.exists():
                continue
            mine = stack.enter_context(locked(root / ".locks" / f"model-{folder.name}", wait=False))
            if mine and not folder.exists():
                todo[folder] = run, told
        if len(todo) < 2:
            return
        group, told_of = zip(*todo.values(), strict=True)
        checkpoints = [checkpoint_of(folder) for folder in todo]

        def work() -> "tuple[list[Decoder], list[History | Diverged]]":
            models = [_start(run).train() for run in group]  # anew: some may be restored when another turns out damaged
            return models, fit_stack(group, models, checkpoints, told_of)

        try:
            models, histories = _despite_damage(work)
        except Unstackable:
            return
        for run, folder, model, history in zip(group, todo, models, histories, strict=True):
            record = _record(run, run.trainings[0], history)
            tell(track, run, root, folder.name, record["rows"])
            keep(run, folder, 1, model, (record,), len(group))


def rows_of(records: tuple[Record, ...]) -> Rows:
    """The rows of all trainings, in order; where there are several, with the number of the stage (0, 1, ...), and step,
    tokens, documents and seconds counted from the beginning of the first."""
    rows: Rows = []
    for number, record in enumerate(records):
        before = rows[-1] if rows else {}
        stage = {"stage": number} if len(records) > 1 else {}
        for row in record["rows"]:
            sums = {key: row[key] + before.get(key, 0) for key in ("step", "tokens", "documents", "seconds")}
            rows.append({**row, **sums, **stage})
    return rows
