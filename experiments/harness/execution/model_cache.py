"""Cache of trained models on disk: paths, locks, loading and atomic storing.

runs/.models/<key>/          a model after some trainings: model/, history.json, training.json, snapshots/ of a curve
runs/.models/<key>.partial/  a training in progress: checkpoint/, from which a killed one goes on
runs/.models/<key>.damaged   the last damaged folder of this key, put aside

The key is the hash of all that determines the weights. A model may be deleted at any time: it is trained again when
needed, and finished runs keep their results.
"""

import os
import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.atomic_io import exclusive_lock, quarantine, read_json, write_json
from experiments.harness.provenance import provenance
from experiments.harness.run import Run
from synth.atomic_io import publish_folder
from synth.errors import UserError
from synth.identity import canonical, digest

if TYPE_CHECKING:
    from lm.model import Decoder

# of one training: its rows, the exposures of its items (mean, min, max) or None, and the step if it diverged
TrainingRecord = dict[str, Any]


@dataclass(frozen=True)
class TrainedModel:
    """A model and the records of its trainings, one per stage."""

    model: Any  # a Decoder, or None for a run without a model and where a training diverged
    records: tuple[TrainingRecord, ...] = ()

    @property
    def diverged(self) -> int | None:
        """Step of the last training at or before which it diverged; None if it did not."""
        return self.records[-1].get("diverged") if self.records else None


def cache_key(run: Run, num_stages: int) -> str:
    """Hash of all that determines the weights after the first `num_stages` stages, as 12 hexadecimal characters."""
    from lm.config import VERSION

    stages = run.stages[:num_stages]
    versions = [stage.task.version for stage in stages]
    return digest([run.model, stages, versions, run.seeds, VERSION, *_curve_parts(run, num_stages)], size=6)


def _curve_parts(run: Run, num_stages: int) -> list[Any]:
    """What the curve adds to a key: the snapshots of these stages, and the plateau that may end the last one."""
    snapshots = [run.snapshot_steps(stage) for stage in range(num_stages)]
    until = run.curve.until if run.curve is not None and num_stages == len(run.stages) else None
    versions = [getattr(evaluation, "version", 1) for evaluation in run.curve_evaluations]
    stop = [until, run.curve_evaluations, versions] if until is not None else []
    return [snapshots, *stop] if any(snapshots) else []


def model_dir(run: Run, root: Path, num_stages: int) -> Path:
    """Folder in the cache of the model after the first `num_stages` stages; it need not exist."""
    return root / ".models" / cache_key(run, num_stages)


def checkpoint_dir(folder: Path) -> Path:
    """Folder of the training checkpoint while the model of `folder` is being trained."""
    return folder.with_suffix(".partial") / "checkpoint"


def model_lock(folder: Path, wait: bool) -> AbstractContextManager[bool]:
    """Lock on training the model of `folder`; yields False if another process holds it and `wait` is False."""
    return exclusive_lock(folder.parents[1] / ".locks" / f"model-{folder.name}", wait)


def load_cached(folder: Path) -> TrainedModel:
    """Load a cached model onto this process's device, with its records; the model is None if its training diverged.

    Raises UserError if the entry is missing or damaged.
    """
    from lm.pretrained import load
    from lm.training.loop import dist_context

    record_only = TrainedModel(None, tuple(read_json(folder / "history.json")))
    if record_only.diverged is not None:
        return record_only
    return TrainedModel(load(folder / "model").to(dist_context().device), record_only.records)


def load_cached_or_none(folder: Path) -> TrainedModel | None:
    """Like `load_cached`, but None if the entry is missing or damaged."""
    try:
        return load_cached(folder)
    except (UserError, TypeError, AttributeError, KeyError):  # the last three: valid JSON that is no list of records
        return None


def store_model(run: Run, folder: Path, num_stages: int, model: "Decoder", records: tuple[TrainingRecord, ...]) -> None:
    """Write a trained model and its records to its cache folder, atomically; the records alone if it diverged."""
    from lm.pretrained import save

    if folder.exists():
        quarantine(folder, "is not whole, or of another version", "trained again")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial / "model", ignore_errors=True)  # a killed process may have left a part
    if TrainedModel(None, records).diverged is None:
        save(model, partial / "model", run.stages[num_stages - 1].task)
    write_json(partial / "history.json", records)
    described = {"model": run.model, "trainings": run.stages[:num_stages], "seeds": run.seeds}
    write_json(partial / "training.json", {"key": folder.name, **canonical(described), **provenance()})
    shutil.rmtree(checkpoint_dir(folder), ignore_errors=True)
    publish_folder(partial, folder)


def link_model(folder: Path, to: Path) -> None:
    """Hard-link a model's files into another folder; copy them where the file system has no hard links."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path in folder.iterdir():
        try:
            os.link(path, to / path.name)
        except OSError:
            shutil.copy2(path, to / path.name)
