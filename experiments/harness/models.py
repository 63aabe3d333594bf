"""Trained models, kept so that nothing is trained twice: not for another evaluation, not for another finetuning.

runs/.models/<key>/          a model after some trainings: model/, history.json, training.json
runs/.models/<key>.partial/  a training in progress: the checkpoints from which a killed one goes on
runs/.locks/model-<key>      held while a process trains it

The key is the hash of all that decides the weights. A model may be deleted at any time: it is trained again when it is
next needed, and finished runs stay as they are.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.files import locked, read_json, sync_tree, write_json
from experiments.harness.fitting import Progress, fit, fit_in_stack, fit_stack, in_stack
from experiments.harness.provenance import provenance
from experiments.harness.ranks import together
from experiments.harness.runs import Run, Stage
from experiments.harness.tracked import followed, tell
from synth.errors import UserError
from synth.files import sync
from synth.mixture import main_part, one_vocab
from synth.streams import canonical, digest

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.state import Diverged, Follow, History

# of one training: its rows, the exposures of its items (mean, min, max) or None, and the step where it diverged
Record = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """A model, and the records of the trainings it has had."""

    model: Any  # a Decoder, or None for a run without a model and where a training diverged
    records: tuple[Record, ...] = ()

    @property
    def diverged(self) -> int | None:
        """The step, of the last training, at or before which it diverged; None when it did not."""
        return self.records[-1].get("diverged") if self.records else None


def key_of(run: Run, stages: int) -> str:
    """Twelve hexadecimal characters that stand for the model after the first `stages` trainings of a run."""
    from lm.config import VERSION

    trainings = run.trainings[:stages]
    versions = [stage.task.version for stage in trainings]
    return digest([run.model, trainings, versions, run.seeds, VERSION], size=6)


def folder_of(run: Run, root: Path, stages: int) -> Path:
    """Where that model is kept."""
    return root / ".models" / key_of(run, stages)


def check(run: Run) -> None:
    """Raise UserError for trainings that could not be done one after another, before the first takes its time."""
    one_vocab([run.task, *(stage.task for stage in run.then)])
    if any(stage.rank for stage in run.then):
        from lm.adapt import require_peft

        require_peft()


def trained(
    run: Run, root: Path, wait: bool, progress: Progress, stages: int | None = None, track: str = ""
) -> Trained | None:
    """The model after the first `stages` (default: all) trainings of a run, kept or made now.

    progress is called with the number of optimizer steps done, also of the stages before; track: a tracker of
    lm.tracking, or "", in which the trainings that are done now are shown. Another process's training is
    waited for, or, with wait=False, given up: the result is then None. Locks are taken from the last stage to the
    first, so that processes never wait for each other. A damaged model is put aside and made anew. A training that
    diverges is recorded as one and leaves no model; those that were to follow are left out.
    """
    stages = len(run.trainings) if stages is None else stages
    if stages == 0:
        return Trained(_start(run))
    folder = folder_of(run, root, stages)
    if found := _read(folder):
        return found
    with locked(root / ".locks" / f"model-{folder.name}", wait) as mine:
        if not mine:
            return None
        if found := _read(folder):  # the process that we waited for has made it
            return found
        before = trained(run, root, wait, progress, stages - 1, track)
        if before is None or before.diverged is not None:
            return before
        return _make(run, folder, stages, before, progress, track)


def _start(run: Run) -> "Decoder":
    from lm.model import build
    from lm.train import where

    assert run.model is not None
    return build(run.model, run.model.ids(run.task.vocab()), run.seeds.init).to(where().device)


def _read(folder: Path) -> Trained | None:
    """What is kept there; None when nothing is, or nothing whole."""
    from lm.checkpoint import load
    from lm.train import where

    try:
        kept = Trained(None, tuple(read_json(folder / "history.json")))
        if kept.diverged is not None:
            return kept
        return Trained(load(folder / "model").to(where().device), kept.records)
    except (UserError, TypeError, AttributeError, KeyError):  # the latter: whole, and yet no records
        return None


def _make(run: Run, folder: Path, stages: int, before: Trained, progress: Progress, track: str) -> Trained:
    from lm.checkpoint import load
    from lm.train import where

    done = sum(earlier.train.steps for earlier in run.trainings[: stages - 1])
    checkpoint, stage = folder.with_suffix(".partial") / "checkpoint", run.trainings[stages - 1]
    stacked = stages == 1 and in_stack(run)  # too small for several ranks to pay
    how, others = (fit_in_stack, nullcontext()) if stacked else (fit, together(run, stages))
    with followed(track, run, folder.parents[1], stages, folder.name) as follow, others:
        fit_to = (checkpoint, lambda step: progress(done + step), follow)
        model, record = train_stage(run, stage, before.model, how, *fit_to)
    records = (*before.records, record)
    _keep(run, folder, stages, model, records)
    # read from the disk, so that a table does not depend on which of its runs came first
    found = Trained(None, records)
    return found if found.diverged is not None else replace(found, model=load(folder / "model").to(where().device))


def _keep(
    run: Run, folder: Path, stages: int, model: "Decoder", records: tuple[Record, ...], together: int = 1
) -> None:
    """Put a trained model in its folder, or, of one that diverged, the records; together: how many were trained at
    once."""
    from lm.checkpoint import save

    if folder.exists():
        old = folder.with_suffix(".old")
        print(
            f"{folder} is not whole, or of another version; it is kept as {old.name} and trained again", file=sys.stderr
        )
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial / "model", ignore_errors=True)  # a kill may have left half of one
    if Trained(None, records).diverged is None:
        save(model, partial / "model")
    write_json(partial / "history.json", records)
    described = {"model": run.model, "trainings": run.trainings[:stages], "seeds": run.seeds, "together": together}
    write_json(partial / "training.json", {"key": folder.name, **canonical(described), **provenance()})
    shutil.rmtree(partial / "checkpoint", ignore_errors=True)
    sync_tree(partial)
    os.rename(partial, folder)
    sync(folder.parent)


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
    from lm.adapt import adapt, merged
    from lm.state import Diverged

    model = adapt(model, stage.rank, stage.embed_rank, run.seeds.init) if stage.rank else model.train()
    try:
        history = how(run, stage, model, checkpoint, progress, follow)
    except Diverged as error:
        return model, _record(run, stage, error)
    return merged(model) if stage.rank else model, _record(run, stage, history)


def _record(run: Run, stage: Stage, history: "History | Diverged") -> Record:
    from lm.state import Diverged

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
    when all are over. What is kept, or at work in another process, is
    left out. Does nothing where less than two are to be trained, or they cannot be trained together.
    """
    from lm.together import Unstackable

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
        models = [_start(run).train() for run in group]
        checkpoints = [folder.with_suffix(".partial") / "checkpoint" for folder in todo]
        try:
            histories = fit_stack(group, models, checkpoints, told_of)
        except Unstackable:
            return
        for run, folder, model, history in zip(group, todo, models, histories, strict=True):
            record = _record(run, run.trainings[0], history)
            tell(track, run, root, folder.name, record["rows"])
            _keep(run, folder, 1, model, (record,), len(group))


def rows_of(records: tuple[Record, ...]) -> list[dict[str, Any]]:
    """The rows of all trainings, in order; where there are several, with the number of the stage (0, 1, ...), and step,
    tokens, documents and seconds counted from the beginning of the first."""
    rows: list[dict[str, Any]] = []
    for number, record in enumerate(records):
        before = rows[-1] if rows else {}
        stage = {"stage": number} if len(records) > 1 else {}
        for row in record["rows"]:
            sums = {key: row[key] + before.get(key, 0) for key in ("step", "tokens", "documents", "seconds")}
            rows.append({**row, **sums, **stage})
    return rows


def link_model(folder: Path, to: Path) -> None:
    """The same model in another folder, without a second copy on the disk where the file system can."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path in folder.iterdir():
        try:
            os.link(path, to / path.name)
        except OSError:
            shutil.copy2(path, to / path.name)
