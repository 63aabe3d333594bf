"""Checkpoints of a training run that survive a kill at any moment.

A checkpoint is a folder `step-N` with tensors (safetensors) and state.json, which holds a digest of the tensors. It is
written under a temporary name, forced to disk and renamed, and only then is the one before it removed.
"""

import errno
import json
import shutil
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from synth.atomic_io import sync
from synth.errors import UserError

TENSORS, STATE = "tensors.safetensors", "state.json"
# what reading files that others may have written can raise, json that nests too deeply (a RuntimeError) included
BROKEN = (OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, SafetensorError)


class Damaged(UserError):
    """A checkpoint that is not whole. folder: the checkpoint's own, without which training starts again."""

    folder: Path

    @classmethod
    def in_folder(cls, folder: Path, message: str) -> "Damaged":
        error = cls(message)
        error.folder = folder
        return error


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def durable(path: Path, data: bytes) -> None:
    """Write a file and force it to disk."""
    path.write_bytes(data)
    sync(path)


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [p for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def write_checkpoint(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write `step-N` and remove older ones. On failure the last checkpoint stays, and UserError says what to mend."""
    scratch, final = folder / f".step-{step}.part", folder / f"step-{step}"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        data = safetensors.torch.save({name: tensor.detach().cpu() for name, tensor in tensors.items()})
        durable(scratch / TENSORS, data)
        body = json.dumps(state)
        digests = {TENSORS: digest(data), STATE: digest(body.encode())}
        durable(scratch / STATE, json.dumps({"digests": digests, "state": body}).encode())
        sync(scratch)
        if final.exists():
            shutil.rmtree(final)
        scratch.rename(final)
        sync(folder)  # the rename itself must reach the disk
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        mend = "free some space" if error.errno == errno.ENOSPC else "make the folder writable"
        raise UserError(
            f"cannot write checkpoint {step} to {folder} ({error.strerror or error}); {mend} and run again: "
            "training goes on from the last checkpoint"
        ) from error
    for old in checkpoints(folder)[:-1]:
        shutil.rmtree(old)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint folder. Raises Damaged, a UserError, when a file is missing, cut or
    altered."""
    name = STATE
    try:
        outer = json.loads((path / STATE).read_bytes())
        body, digests = outer["state"], outer["digests"]
        if digest(body.encode()) != digests[STATE]:
            raise ValueError("its digest differs")
        name = TENSORS
        data = (path / TENSORS).read_bytes()
        if digest(data) != digests[TENSORS]:
            raise ValueError("its digest differs")
        tensors, state = safetensors.torch.load(data), json.loads(body)
        if not isinstance(state, dict):
            raise ValueError("its state is no object")
        return tensors, state
    except BROKEN as error:
        problem = f"the checkpoint file {path / name} is missing, cut or altered"
        raise Damaged.in_folder(path, f"{problem}; delete the folder {path} to train again from the start") from error
