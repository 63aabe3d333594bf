"""Trained models on the disk: where each lies, and how it gets there and back whole.

runs/.models/<key>/          a model after some trainings: model/, history.json, training.json
runs/.models/<key>.partial/  a training in progress: checkpoint/, from which a killed one goes on
runs/.models/<key>.damaged   what was found there and was not whole, until the next of its kind

The key is the hash of all that decides the weights. A model may be deleted at any time: it is trained again when it is
next needed, and finished runs stay as they are.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.atomic_io import put_aside, read_json, sync_tree, write_json
from experiments.harness.provenance import provenance
from experiments.harness.run import Run
from synth.atomic_io import sync
from synth.errors import UserError
from synth.identity import canonical, digest

if TYPE_CHECKING:
    from lm.model import Decoder

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


def checkpoint_of(folder: Path) -> Path:
    """Where the training of the model that will be kept in `folder` saves itself."""
    return folder.with_suffix(".partial") / "checkpoint"


def read(folder: Path) -> Trained:
    """What is kept in a folder; the model is None when it diverged. Raises UserError when nothing whole is there."""
    from lm.pretrained import load
    from lm.training.loop import where

    kept = Trained(None, tuple(read_json(folder / "history.json")))
    return kept if kept.diverged is not None else Trained(load(folder / "model").to(where().device), kept.records)


def find(folder: Path) -> Trained | None:
    """The same; None when nothing is there, or nothing whole."""
    try:
        return read(folder)
    except (UserError, TypeError, AttributeError, KeyError):  # the latter: whole, and yet no records
        return None


def keep(run: Run, folder: Path, stages: int, model: "Decoder", records: tuple[Record, ...], together: int = 1) -> None:
    """Put a trained model in its folder, or, of one that diverged, the records; together: how many were trained at
    once."""
    from lm.pretrained import save

    if folder.exists():
        put_aside(folder, "is not whole, or of another version", "trained again")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial / "model", ignore_errors=True)  # a kill may have left half of one
    if Trained(None, records).diverged is None:
        save(model, partial / "model")
    write_json(partial / "history.json", records)
    described = {"model": run.model, "trainings": run.trainings[:stages], "seeds": run.seeds, "together": together}
    write_json(partial / "training.json", {"key": folder.name, **canonical(described), **provenance()})
    shutil.rmtree(checkpoint_of(folder), ignore_errors=True)
    sync_tree(partial)
    os.rename(partial, folder)
    sync(folder.parent)


def link_model(folder: Path, to: Path) -> None:
    """The same model in another folder, without a second copy on the disk where the file system can."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path in folder.iterdir():
        try:
            os.link(path, to / path.name)
        except OSError:
            shutil.copy2(path, to / path.name)
