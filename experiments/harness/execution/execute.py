"""Execute one run once: train, measure, write everything under a temporary name, rename.

runs/<id>.partial/   results being written
runs/<id>/           a finished run: rows.json (its result), run.json, history.json, model/, a curve's snapshots/
runs/<id>.damaged/   a damaged folder, put aside when its run was executed again
runs/.models/        trained models and trainings in progress (see model_cache.py)
runs/.locks/<id>     held while a process works on the run, so that two processes never do it twice
"""

import dataclasses
import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

from experiments.harness.atomic_io import exclusive_lock, is_disk_full, quarantine, read_json, write_json
from experiments.harness.execution.fit import StepCallback
from experiments.harness.execution.model_cache import TrainedModel, link_model, model_dir
from experiments.harness.execution.snapshots import measure, measure_snapshot, run_snapshots, settings_of
from experiments.harness.execution.trainings import check_stages, concatenate_histories, train_or_load
from experiments.harness.execution.tuning import ReadRows, close_trials, first_trials, with_chosen_settings
from experiments.harness.provenance import provenance
from experiments.harness.run import Rows, Run, run_id
from synth.atomic_io import publish_folder
from synth.errors import UserError
from synth.identity import canonical


def execute(
    run: Run, root: Path, wait: bool = True, on_step: StepCallback | None = None, tracker: str = ""
) -> Rows | None:
    """Execute a run, or resume it, and return its rows; a finished run is only read.

    on_step: called with the number of optimizer steps done. tracker: a tracker of lm.training.trackers, or "" for none.
    wait: whether to wait while another process executes this run or a training that it needs; if False, None is
    returned instead. A damaged result is put aside and the run is executed again. Raises UserError for stages that do
    not fit together, OSError (ENOSPC) on a full disk.
    """
    if has_valid_result(run, root):
        return read_rows(run, root)
    with exclusive_lock(root / ".locks" / run_id(run), wait) as acquired:
        if not acquired:
            return None
        if not has_valid_result(run, root):  # the process that we waited for may have finished it
            try:
                if has_result(run, root):
                    quarantine(root / run_id(run), "is not whole", "done again")
                if not _do_run(run, root, wait, on_step or (lambda step: None), tracker):
                    return None
            except Exception as error:
                if is_disk_full(error, root):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root)) from error
                raise
    return read_rows(run, root)


def read_rows(run: Run, root: Path) -> Rows:
    """Read the rows of a finished run. Raises UserError if the file is missing or damaged."""
    return read_json(root / run_id(run) / "rows.json")


def rows_reader(root: Path) -> ReadRows:
    """A function that reads the rows of a finished run under `root`, and returns None for an unfinished one."""
    return lambda run: read_rows(run, root) if has_valid_result(run, root) else None


def has_result(run: Run, root: Path) -> bool:
    """Whether the run's result folder exists; its content is not checked."""
    return (root / run_id(run)).exists()


def has_valid_result(run: Run, root: Path) -> bool:
    """Whether the run has an undamaged result."""
    try:
        return has_result(run, root) and bool(read_rows(run, root))
    except UserError:
        return False


def _do_run(run: Run, root: Path, wait: bool, on_step: StepCallback, tracker: str) -> bool:
    """Execute the run; False if another process is busy with a trial or a training that it needs and `wait` is
    False."""
    final = root / run_id(run)
    partial = final.with_suffix(".partial")
    record = provenance()
    check_stages(run)
    if not _do_trials(run, root, wait, tracker):
        return False
    chosen, grid_columns = with_chosen_settings(run, rows_reader(root))
    trained = train_or_load(chosen, root, wait, on_step, tracker=tracker) if run.model else TrainedModel(None)
    if trained is None:
        return False
    on_step(run.steps)
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    partial.mkdir(parents=True)
    model, history = trained.model, concatenate_histories(trained.records)
    _save_model(chosen, root, model, partial / "model")
    start = time.perf_counter()
    measured = _measure(chosen, root, model, history) if trained.diverged is None else _rows_without_metrics(run)
    # training counts even if another run did it: a table must not depend on which run came first
    trained_seconds = history[-1]["seconds"] if history else 0.0
    seconds = time.perf_counter() - start + trained_seconds
    constant = {**_training_columns(chosen, trained, history), **_code_columns(record), "seconds": round(seconds, 3)}
    leading = {**_run_columns(run), **grid_columns}
    write_json(partial / "history.json", history)
    described = {"id": run_id(run), "run": canonical(run), **record, "seconds": seconds}
    described |= {"chosen": canonical(chosen)} if run.grid else {}
    write_json(partial / "run.json", {**described, "training_seconds": trained_seconds})
    write_json(partial / "rows.json", [{**leading, "step": _last_step(history), **row, **constant} for row in measured])
    for step, folder in run_snapshots(chosen, root, _last_step(history)) if trained.diverged is None else ():
        link_model(folder / "model", partial / "snapshots" / str(step))
    publish_folder(partial, final)
    return True


def _do_trials(run: Run, root: Path, wait: bool, tracker: str) -> bool:
    """Execute the trials of the run's grid that are left; False if another process is busy with one."""
    for trials in (lambda: first_trials([run]), lambda: close_trials([run], rows_reader(root))):
        if any(execute(each, root, wait, tracker=tracker) is None for each in trials()):
            return False
    return True


def _save_model(run: Run, root: Path, model: Any, folder: Path) -> None:
    from lm.pretrained import save

    if run.stages and model is not None:
        link_model(model_dir(run, root, len(run.stages)) / "model", folder)
    elif model is not None:
        save(model, folder, run.task)


def _measure(run: Run, root: Path, model: Any, history: Rows) -> Rows:
    """The rows of the curve, step by step, then those of the trained model; one bare row without any evaluation."""
    rows: Rows = []
    for step, folder in run_snapshots(run, root, _last_step(history)):
        until_then = [row for row in history if row["step"] <= step]
        rows += [{"step": step, **row} for row in measure_snapshot(run, folder, until_then)]
    at_the_end = tuple(dict.fromkeys([*run.curve_evaluations, *run.evaluations]))
    return rows + measure(run, at_the_end, model, history) or [{}]


def _last_step(history: Rows) -> int:
    """The step at which the training ended; 0 without a training."""
    return int(history[-1]["step"]) if history else 0


def _rows_without_metrics(run: Run) -> Rows:
    """A row without metrics for every evaluation of a training that diverged."""
    return [settings_of(evaluation) for evaluation in run.evaluations] or [{}]


def _run_columns(run: Run) -> dict[str, Any]:
    seeds = {f"seed_{name}": value for name, value in dataclasses.asdict(run.seeds).items()}
    return {"run": run_id(run), "experiment": run.experiment, **dict(run.tags), **seeds}


def _training_columns(run: Run, trained: TrainedModel, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters, and tokens, steps and last loss of all trainings; `diverged` and its step if one diverged; mean,
    minimum and maximum exposures of the first training's items if its task (of a mixture, the first part) has some."""
    last = history[-1] if history else {"tokens": 0, "loss": None}
    steps = run.steps if trained.diverged is not None else _last_step(history)
    columns = {"parameters": None, "tokens": last["tokens"], "steps": steps, "train_loss": last["loss"]}
    if trained.diverged is not None:
        columns |= {"diverged": True, "diverged_at": trained.diverged, "train_loss": None}
    if run.model is not None:
        from lm.model import meta_model
        from lm.model_size import count_parameters

        # of the trained model, as merging adapters may have untied the embedding
        model = trained.model or meta_model(run.model, run.model.model_vocab_size(run.task.vocab()))
        columns["parameters"] = count_parameters(model)["total"]
    exposures = trained.records[0]["exposures"] if trained.records else None
    if exposures is not None:
        columns |= dict(zip(("exposures", "exposures_min", "exposures_max"), exposures, strict=True))
    return columns


def _code_columns(record: dict[str, Any]) -> dict[str, Any]:
    return {"git_commit": record["git_commit"], "device": record["device"]}
