"""Execute one run once: train, measure, write everything under a temporary name, rename.

runs/<id>.partial/   results being written
runs/<id>/           a finished run: rows.json (its result), run.json, history.json, model/
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
from experiments.harness.execution.trainings import check_stages, concatenate_histories, train_or_load
from experiments.harness.provenance import provenance
from experiments.harness.run import RESERVED_COLUMNS, Rows, Run, evaluation_settings, run_id
from synth.atomic_io import publish_folder
from synth.errors import UserError
from synth.identity import canonical, identity_name


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
    """Execute the run; False if another process is busy with a training that it needs and `wait` is False."""
    final = root / run_id(run)
    partial = final.with_suffix(".partial")
    record = provenance()
    check_stages(run)
    trained = train_or_load(run, root, wait, on_step, tracker=tracker) if run.model else TrainedModel(None)
    if trained is None:
        return False
    on_step(run.steps)
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    partial.mkdir(parents=True)
    model, history = trained.model, concatenate_histories(trained.records)
    _save_model(run, root, model, partial / "model")
    start = time.perf_counter()
    measured = _measure(run, model, history) if trained.diverged is None else _rows_without_metrics(run)
    # training counts even if another run did it: a table must not depend on which run came first
    seconds = time.perf_counter() - start + (history[-1]["seconds"] if history else 0.0)
    constant = {**_training_columns(run, trained, history), **_code_columns(record), "seconds": round(seconds, 3)}
    write_json(partial / "history.json", history)
    write_json(partial / "run.json", {"id": run_id(run), "run": canonical(run), **record, "seconds": seconds})
    write_json(partial / "rows.json", [{**_run_columns(run), **row, **constant} for row in measured])
    publish_folder(partial, final)
    return True


def _save_model(run: Run, root: Path, model: Any, folder: Path) -> None:
    from lm.pretrained import save

    if run.stages and model is not None:
        link_model(model_dir(run, root, len(run.stages)) / "model", folder)
    elif model is not None:
        save(model, folder)


def _measure(run: Run, model: Any, history: Rows) -> Rows:
    """The rows of all evaluations, each with the evaluation's name and plain settings; one bare row without any."""
    rows: Rows = []
    for evaluation in run.evaluations:
        settings = _settings(evaluation)
        if hasattr(evaluation, "measure_history"):
            settings |= evaluation.measure_history(history)
        answer = evaluation.measure(model, run.task, run.seeds.data, run.seeds.init)
        for row in [answer] if isinstance(answer, dict) else answer:
            if taken := row.keys() & (RESERVED_COLUMNS | dict(run.tags).keys()):
                raise ValueError(f"{settings['evaluation']} measures {sorted(taken)}, a column of the run; rename it")
            rows.append(settings | {key: _to_python_scalar(value) for key, value in row.items()})
    return rows or [{}]


def _rows_without_metrics(run: Run) -> Rows:
    """A row without metrics for every evaluation of a training that diverged."""
    return [_settings(evaluation) for evaluation in run.evaluations] or [{}]


def _settings(evaluation: Any) -> dict[str, Any]:
    return {"evaluation": identity_name(type(evaluation)), **evaluation_settings(evaluation)}


def _to_python_scalar(value: Any) -> Any:
    """Convert a numpy or torch scalar to a Python number, for JSON."""
    return value.item() if hasattr(value, "item") else value


def _run_columns(run: Run) -> dict[str, Any]:
    seeds = {f"seed_{name}": value for name, value in dataclasses.asdict(run.seeds).items()}
    return {"run": run_id(run), "experiment": run.experiment, **dict(run.tags), **seeds}


def _training_columns(run: Run, trained: TrainedModel, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters, and tokens, steps and last loss of all trainings; `diverged` and its step if one diverged; mean,
    minimum and maximum exposures of the first training's items if its task (of a mixture, the first part) has some."""
    last = history[-1] if history else {"tokens": 0, "loss": None}
    columns = {"parameters": None, "tokens": last["tokens"], "steps": run.steps, "train_loss": last["loss"]}
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
