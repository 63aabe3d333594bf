"""Carry out one run, once: train, measure, write everything under a temporary name, rename.

runs/<id>.partial/   results being written
runs/<id>/           a finished run: rows.json (its result), run.json, history.json, model/
runs/<id>.damaged/   a folder whose rows were not whole, kept when its run was done again
runs/.models/        trained models and trainings in progress (see kept.py)
runs/.locks/<id>     held while a process works on the run, so that two processes never do it twice
"""

import dataclasses
import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any

from experiments.harness.atomic_io import disk_full, locked, put_aside, read_json, sync_tree, write_json
from experiments.harness.execution.model_cache import Trained, folder_of, link_model
from experiments.harness.execution.trainings import Progress, check, rows_of, trained
from experiments.harness.provenance import provenance
from experiments.harness.run import RESERVED, Rows, Run, run_id, settings_of
from synth.atomic_io import sync
from synth.errors import UserError
from synth.identity import canonical, identity_name


def execute(run: Run, root: Path, wait: bool = True, progress: Progress | None = None, track: str = "") -> Rows | None:
    """The rows of a run, from its folder when it is finished, else by doing it (or going on with it).

    progress is called with the number of optimizer steps done; track: a tracker of lm.training.trackers, or "", in
    which the trainings that are done now are shown. Another process's run, or training that this one needs, is waited
    for, or, with wait=False, given up: the result is then None. A folder whose rows are not whole is put aside and the
    run is done again. Raises UserError for trainings that do not fit each other, OSError on a full disk.
    """
    if readable(run, root):
        return read_rows(run, root)
    with locked(root / ".locks" / run_id(run), wait) as mine:
        if not mine:
            return None
        if not readable(run, root):  # the process that we waited for may have finished it
            try:
                if finished(run, root):
                    put_aside(root / run_id(run), "is not whole", "done again")
                if not _work(run, root, wait, progress or (lambda step: None), track):
                    return None
            except Exception as error:
                if disk_full(error, root):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root)) from error
                raise
    return read_rows(run, root)


def read_rows(run: Run, root: Path) -> Rows:
    """The rows of a finished run. Raises UserError when the file is not whole."""
    return read_json(root / run_id(run) / "rows.json")


def finished(run: Run, root: Path) -> bool:
    """Whether the run has a result already."""
    return (root / run_id(run)).exists()


def readable(run: Run, root: Path) -> bool:
    """Whether the run has a result that is whole; `finished` does not look into the folder."""
    try:
        return finished(run, root) and bool(read_rows(run, root))
    except UserError:
        return False


def _work(run: Run, root: Path, wait: bool, progress: Progress, track: str) -> bool:
    """Do the run; False when another process is at a training that it needs, and wait is False."""
    final = root / run_id(run)
    partial = final.with_suffix(".partial")
    record = provenance()
    check(run)
    found = trained(run, root, wait, progress, track=track) if run.model else Trained(None)
    if found is None:
        return False
    progress(run.steps)
    shutil.rmtree(partial, ignore_errors=True)  # what a kill has left
    partial.mkdir(parents=True)
    model, history = found.model, rows_of(found.records)
    _keep_model(run, root, model, partial / "model")
    begin = time.perf_counter()
    measured = _measure(run, model, history) if found.diverged is None else _unmeasured(run)
    # what was trained for another run counts too: a table does not depend on which run came first
    seconds = time.perf_counter() - begin + (history[-1]["seconds"] if history else 0.0)
    constant = {**_training_columns(run, found, history), **_code_columns(record), "seconds": round(seconds, 3)}
    write_json(partial / "history.json", history)
    write_json(partial / "run.json", {"id": run_id(run), "run": canonical(run), **record, "seconds": seconds})
    write_json(partial / "rows.json", [{**_run_columns(run), **row, **constant} for row in measured])
    sync_tree(partial)
    os.rename(partial, final)
    sync(root)
    return True


def _keep_model(run: Run, root: Path, model: Any, folder: Path) -> None:
    from lm.pretrained import save

    if run.trainings and model is not None:
        link_model(folder_of(run, root, len(run.trainings)) / "model", folder)
    elif model is not None:
        save(model, folder)


def _measure(run: Run, model: Any, history: Rows) -> Rows:
    """The rows of all evaluations, each with the evaluation's name and plain settings; one bare row without any."""
    rows: Rows = []
    for evaluation in run.evaluations:
        settings = _settings(evaluation)
        if hasattr(evaluation, "of_history"):
            settings |= evaluation.of_history(history)
        answer = evaluation.measure(model, run.task, run.seeds.data, run.seeds.init)
        for row in [answer] if isinstance(answer, dict) else answer:
            if taken := row.keys() & (RESERVED | dict(run.tags).keys()):
                raise ValueError(f"{settings['evaluation']} measures {sorted(taken)}, a column of the run; rename it")
            rows.append(settings | {key: _plain(value) for key, value in row.items()})
    return rows or [{}]


def _unmeasured(run: Run) -> Rows:
    """A row without metrics for every evaluation of a training that diverged."""
    return [_settings(evaluation) for evaluation in run.evaluations] or [{}]


def _settings(evaluation: Any) -> dict[str, Any]:
    return {"evaluation": identity_name(type(evaluation)), **settings_of(evaluation)}


def _plain(value: Any) -> Any:
    """A number as Python has it, so that numpy and torch scalars go into json."""
    return value.item() if hasattr(value, "item") else value


def _run_columns(run: Run) -> dict[str, Any]:
    seeds = {f"seed_{name}": value for name, value in dataclasses.asdict(run.seeds).items()}
    return {"run": run_id(run), "experiment": run.experiment, **dict(run.tags), **seeds}


def _training_columns(run: Run, found: Trained, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Size of the model and cost of all trainings; where the first training is on fixed items (of a mixture, on those
    of its first part) also how often it showed each: mean, least and most. Where one diverged, that and the step."""
    last = history[-1] if history else {"tokens": 0, "loss": None}
    columns = {"parameters": None, "tokens": last["tokens"], "steps": run.steps, "train_loss": last["loss"]}
    if found.diverged is not None:
        columns |= {"diverged": True, "diverged_at": found.diverged, "train_loss": None}
    if run.model is not None:
        from lm.model import outline
        from lm.model_size import count_parameters

        # adapters may have untied the embedding, so that a model is counted as it has become
        model = found.model or outline(run.model, run.model.ids(run.task.vocab()))
        columns["parameters"] = count_parameters(model)["total"]
    exposures = found.records[0]["exposures"] if found.records else None
    if exposures is not None:
        columns |= dict(zip(("exposures", "exposures_min", "exposures_max"), exposures, strict=True))
    return columns


def _code_columns(record: dict[str, Any]) -> dict[str, Any]:
    return {"git_commit": record["git_commit"], "device": record["device"]}
