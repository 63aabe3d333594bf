"""Models during training: kept at the steps of a run's curve, measured, and asked whether the plateau is reached.

runs/.models/<key>/snapshots/<step>/   model/, and rows-<digest>.json, what an evaluation found; <step> within the stage
"""

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from experiments.harness.atomic_io import quarantine, read_json, write_json
from experiments.harness.execution.model_cache import model_dir
from experiments.harness.run import RESERVED_COLUMNS, Rows, Run, evaluation_settings
from synth.errors import UserError
from synth.identity import digest, identity_name

if TYPE_CHECKING:
    from lm.model import Decoder


@dataclass(frozen=True)
class StageSnapshots:
    """What a stage's training does at the steps of the curve. folder: of the snapshots, while the model is trained."""

    run: Run
    stage: int  # from 0
    folder: Path

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps within the stage; empty without a curve."""
        return self.run.snapshot_steps(self.stage)

    def keep_and_decide(self, step: int, model: "Decoder") -> bool:
        """Keep the model; return whether the training ends here because its plateau is reached."""
        import torch

        from lm.pretrained import save
        from lm.transforms.lora import merge_lora

        merged = merge_lora(copy.deepcopy(model)) if self.run.stages[self.stage].lora_rank else model
        shutil.rmtree(self.folder / str(step), ignore_errors=True)  # of a training that was killed and resumed
        save(merged.eval(), self.folder / str(step) / "model")
        plateau = self.run.curve.until if self.run.curve else None
        if plateau is None or self.stage < len(self.run.stages) - 1:
            return False
        with torch.enable_grad():  # probes and adapters train
            until_now = [measure_snapshot(self.run, self.folder / str(s), []) for s in self.steps if s <= step]
        return plateau.reached([mean_of_column(rows, plateau.metric) for rows in until_now])


def stage_snapshots(run: Run, root: Path, stage: int) -> StageSnapshots:
    """What the training of stage `stage` (from 0) does at the steps of the curve."""
    return StageSnapshots(run, stage, model_dir(run, root, stage + 1).with_suffix(".partial") / "snapshots")


def run_snapshots(run: Run, root: Path, last_step: int) -> list[tuple[int, Path]]:
    """The steps, counted over all stages and before `last_step`, at which the trained run's model was kept, and the
    folders of the snapshots. Raises UserError, after it has put the cached model aside, if one is missing."""
    found, before = [], 0
    for stage, each in enumerate(run.stages):
        cached = model_dir(run, root, stage + 1)
        steps = [step for step in run.snapshot_steps(stage) if before + step < last_step]
        folders = [cached / "snapshots" / str(step) for step in steps]
        if lost := [folder for folder in folders if not (folder / "model").is_dir()]:
            _put_aside(cached, f"lacks {lost[0].name}")
        found += [(before + step, folder) for step, folder in zip(steps, folders, strict=True)]
        before += each.train.steps
    return found


def _put_aside(cached: Path, problem: str) -> NoReturn:
    quarantine(cached, problem, "trained again by the same command")
    raise UserError(f"a snapshot of {cached} was damaged; run the same command to train it again")


def measure_snapshot(run: Run, folder: Path, history: Rows) -> Rows:
    """The rows of the curve's evaluations for a snapshot, kept in its folder, so that each is measured once.

    history: the rows of the training until then, for evaluations of it. Raises UserError for a damaged snapshot, after
    it has put the cached model aside.
    """
    from lm.pretrained import load
    from lm.training.loop import dist_context

    @cache
    def model() -> "Decoder":
        try:
            return load(folder / "model").to(dist_context().device)
        except UserError as error:
            _put_aside(folder.parents[1], str(error))

    rows: Rows = []
    for evaluation in run.curve_evaluations:
        version = getattr(evaluation, "version", 1)
        path = folder / f"rows-{digest([evaluation, version, run.task, run.task.version, run.seeds], size=6)}.json"
        try:
            found = read_json(path)
        except UserError:  # missing or damaged
            write_json(path, found := _rows_of(run, evaluation, model()))
        rows += [settings_of(evaluation) | _of_history(evaluation, history) | row for row in found]
    return rows


def settings_of(evaluation: Any) -> dict[str, Any]:
    """The name of an evaluation and those of its fields that are columns."""
    return {"evaluation": identity_name(type(evaluation)), **evaluation_settings(evaluation)}


def measure(run: Run, evaluations: Sequence[Any], model: Any, history: Rows) -> Rows:
    """The rows of evaluations of a model, each with the evaluation's name and plain settings."""
    return [
        settings_of(evaluation) | _of_history(evaluation, history) | row
        for evaluation in evaluations
        for row in _rows_of(run, evaluation, model)
    ]


def _of_history(evaluation: Any, history: Rows) -> dict[str, Any]:
    return evaluation.measure_history(history) if hasattr(evaluation, "measure_history") and history else {}


def mean_of_column(rows: Rows, column: str) -> float:
    """The mean over the rows that have the column. Raises UserError, which names the columns, if none has it."""
    values = [row[column] for row in rows if row.get(column) is not None]
    if not values:
        columns = ", ".join(sorted({name for row in rows for name in row}))
        raise UserError(f"no evaluation of the curve has a column {column!r} for its plateau; columns: {columns}")
    return float(np.mean(values))


def _rows_of(run: Run, evaluation: Any, model: Any) -> Rows:
    answer = evaluation.measure(model, run.task, run.seeds.data, run.seeds.init)
    rows = [answer] if isinstance(answer, dict) else answer
    for row in rows:
        if taken := row.keys() & (RESERVED_COLUMNS | dict(run.tags).keys()):
            name = identity_name(type(evaluation))
            raise ValueError(f"{name} measures {sorted(taken)}, a column of the run; rename it")
    return [{key: _to_python_scalar(value) for key, value in row.items()} for row in rows]


def _to_python_scalar(value: Any) -> Any:
    """Convert a numpy or torch scalar to a Python number, for JSON."""
    return value.item() if hasattr(value, "item") else value
