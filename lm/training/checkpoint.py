"""Checkpoints of a training that survive a kill at any moment.

A checkpoint is a folder `step-N` with tensors.safetensors and state.json, which holds digests of both. It is written
under a temporary name, forced to disk and renamed; only then is the previous one removed.
"""

import errno
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from synth.atomic_io import content_digest, publish_folder
from synth.errors import UserError

TENSORS, STATE = "tensors.safetensors", "state.json"
# what reading a damaged or foreign file can raise; json that nests too deeply is a RuntimeError
JSON_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
READ_ERRORS = (OSError, SafetensorError, *JSON_ERRORS)


class DamagedCheckpoint(UserError):
    """A checkpoint with a missing or altered file. folder: the checkpoint's; without it training starts anew."""

    folder: Path

    @classmethod
    def of_folder(cls, folder: Path, message: str) -> "DamagedCheckpoint":
        error = cls(message)
        error.folder = folder
        return error


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders of the complete checkpoints in `folder`, oldest first."""
    found = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def write_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write `step-N` and remove older checkpoints. Raises UserError on failure; the last checkpoint then stays."""
    scratch, final = folder / f".step-{step}.part", folder / f"step-{step}"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        data = safetensors.torch.save({name: tensor.detach().cpu() for name, tensor in tensors.items()})
        (scratch / TENSORS).write_bytes(data)
        body = json.dumps(state)
        digests = {TENSORS: content_digest(data), STATE: content_digest(body.encode())}
        (scratch / STATE).write_bytes(json.dumps({"digests": digests, "state": body}).encode())
        publish_folder(scratch, final, replace=True)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        mend = "free some space" if error.errno == errno.ENOSPC else "make the folder writable"
        raise UserError(
            f"cannot write checkpoint {step} to {folder} ({error.strerror or error}); {mend} and run again: "
            "training goes on from the last checkpoint"
        ) from error
    for old in list_checkpoints(folder)[:-1]:
        shutil.rmtree(old)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint. Raises DamagedCheckpoint when a file is missing, cut short or altered."""
    name = STATE
    try:
        outer = json.loads((path / STATE).read_bytes())
        body, digests = outer["state"], outer["digests"]
        if content_digest(body.encode()) != digests[STATE]:
            raise ValueError("its digest differs")
        name = TENSORS
        data = (path / TENSORS).read_bytes()
        if content_digest(data) != digests[TENSORS]:
            raise ValueError("its digest differs")
        tensors, state = safetensors.torch.load(data), json.loads(body)
        if not isinstance(state, dict):
            raise ValueError("its state is no object")
        return tensors, state
    except READ_ERRORS as error:
        problem = f"the checkpoint file {path / name} is missing, cut or altered"
        message = f"{problem}; delete the folder {path} to train again from the start"
        raise DamagedCheckpoint.of_folder(path, message) from error
