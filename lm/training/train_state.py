"""What changes while a model trains, and how it goes to a checkpoint and comes back."""

import errno
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder
from lm.training.checkpoint import Damaged, checkpoints, read_checkpoint, write_checkpoint
from lm.training.distributed import Place, anywhere, furthest, gathered, parted
from synth.atomic_io import write_bytes
from synth.corpus import Cursor
from synth.errors import UserError
from synth.task import Task

Progress = Callable[[int, int, float], None]  # step, steps, loss
Follow = Callable[[Mapping[str, float]], None]  # a row of the history
METRICS = "metrics.jsonl"


class Diverged(UserError):
    """A training whose loss or weights are no longer finite; a sweep records it and goes on.

    step: the optimizer step at or before which it happened; history: what was logged until then.
    """

    def __init__(self, message: str, step: int | None = None, history: "History | None" = None) -> None:
        super().__init__(message)
        self.step, self.history = step, history


class History(list[dict[str, float]]):
    """Rows {step, tokens, documents, loss (mean since the last row, nats), lr, seconds}, and what was trained on.

    tokens: inputs that were not padding; documents: those whose last token was a target; exposures (n,) int64: how
    often each fixed item's document ended in a batch that reached the optimizer (None for a task without fixed items).
    """

    tokens: int = 0
    documents: int = 0
    seconds: float = 0.0
    exposures: np.ndarray | None = None


@dataclass
class Run:
    """Everything that changes while training, beside the weights."""

    optimizer: torch.optim.Optimizer
    cursor: Cursor
    step: int = 0
    pending: Any = 0.0  # sum of the losses since the last row; a tensor between the times it is read
    history: History = field(default_factory=History)


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Make the folder and hold it; the system lets go of it when the process ends, however it ends.

    Raises UserError when it cannot be made or another process holds it.
    """
    handle = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = os.open(home, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)  # type: ignore[arg-type]
        raise UserError(f"another process is training in {home}; wait for it or use another folder") from None
    except OSError as error:
        if handle is None:
            raise _unwritable(home, error) from error
        # else the file system has no locks: train without
    try:
        yield
    finally:
        os.close(handle)


def _unwritable(home: Path, error: OSError) -> UserError:
    mend = "free some space" if error.errno == errno.ENOSPC else "use a folder that can be written"
    return UserError(f"cannot write to {home} ({error.strerror or error}); {mend} and run again")


def identity_of(
    model: Decoder, task: Task, config: TrainConfig, data_seed: int, order_seed: int, log_every: int
) -> dict[str, Any]:
    """What must be equal for a checkpoint to be continued."""
    weights = blake2b(digest_size=16)
    for _, tensor in sorted(model.state_dict().items()):
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return json.loads(
        json.dumps(
            {
                "model": asdict(model.config) | model.config.contents(),
                "vocab_size": model.vocab_size,
                "initial_weights": weights.hexdigest(),
                "task": task.key,
                "train": asdict(config),
                "data_seed": data_seed,
                "order_seed": order_seed,
                "log_every": log_every,
            }
        )
    )


def save_run(home: Path, identity: Mapping[str, Any], model: Decoder, run: Run, write: bool = True) -> None:
    """Write a checkpoint. Of several ranks all must call it, as each may have a part of the weights; one writes."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    tensors = gathered(tensors, write)
    if not write:
        return
    history = run.history
    if history.exposures is not None:
        tensors["exposures"] = torch.from_numpy(history.exposures)
    state = {
        "identity": identity,
        "step": run.step,
        "cursor": asdict(run.cursor),
        "pending": run.pending,
        "rows": list(history),
        "counts": {"tokens": history.tokens, "documents": history.documents, "seconds": history.seconds},
    }
    write_checkpoint(home, run.step, tensors, state)


def restore_run(home: Path, identity: Mapping[str, Any], model: Decoder, run: Run) -> None:
    """Load the newest checkpoint of `home` into model and run, if there is one."""
    _load(_newest(home), identity, model, run)


def restore_alike(home: Path, identity: Mapping[str, Any], model: Decoder, run: Run, place: Place) -> None:
    """As `restore_run` in each of several ranks, which go on only together.

    Raises, in all of them and before anything is loaded, Damaged where one finds the checkpoint so, and UserError where
    they do not find the same one.
    """
    found, damaged = None, None
    try:
        found = _newest(home)
    except Damaged as error:
        damaged = error
    if anywhere(damaged is not None, place):
        raise damaged or Damaged.in_folder(home / "elsewhere", f"another rank finds a damaged checkpoint in {home}")
    step = found.state["step"] if found else 0
    if anywhere(step != furthest(step, place), place):
        raise UserError(f"ranks find different checkpoints in {home}; give all machines the same folder of runs")
    _load(found, identity, model, run)


class _Found(NamedTuple):
    """A checkpoint as it was read."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def _newest(home: Path) -> _Found | None:
    found = checkpoints(home)
    return _Found(found[-1], *read_checkpoint(found[-1])) if found else None


def _load(found: _Found | None, identity: Mapping[str, Any], model: Decoder, run: Run) -> None:
    if found is None:
        return
    path, tensors, state = found
    for name, value in identity.items():
        if _as_now(name, state["identity"].get(name)) != value:
            raise UserError(f"{path} belongs to a run with another {name}; use another folder or delete it")
    model.load_state_dict({k: parted(tensors[f"model.{k}"], old) for k, old in model.state_dict().items()})
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": _memory(tensors, run.optimizer), "param_groups": groups})
    run.step, run.pending, run.cursor = state["step"], state["pending"], Cursor.of(state["cursor"])
    run.history.extend(state["rows"])
    run.history.tokens, run.history.documents = state["counts"]["tokens"], state["counts"]["documents"]
    run.history.seconds = state["counts"]["seconds"]
    if "exposures" in tensors:
        run.history.exposures = tensors["exposures"].numpy()


def _memory(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """What the optimizer remembers of each weight, by the weight's number."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    memory: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            of_weight = tensor.shape == weights[int(number)].shape  # else a count of steps
            part = parted(tensor, weights[int(number)]) if of_weight else tensor
            memory.setdefault(int(number), {})[name] = part
    return memory


def _as_now(name: str, before: Any) -> Any:
    """A part of an older checkpoint's identity with the fields that its configuration did not have yet, neutral."""
    config = {"model": ModelConfig, "train": TrainConfig}.get(name)
    if config is None or not isinstance(before, dict):
        return before
    return {f.name: f.metadata["neutral"] for f in fields(config) if "neutral" in f.metadata} | before


class Recorder:
    """Sends each new row to metrics.jsonl, the progress call or bar, and `follow`; raises UserError when it cannot.

    follow: also called with the rows of an earlier attempt, so that it has seen the whole history.
    """

    def __init__(
        self, home: Path | None, run: Run, config: TrainConfig, progress: Progress | None, follow: Follow | None = None
    ) -> None:
        self.home, self.run, self.config, self.progress, self.bar = home, run, config, progress, None
        self.follow = follow or (lambda row: None)

    def __enter__(self) -> Callable[[], None]:
        if self.home:
            rows = "".join(json.dumps(row) + "\n" for row in self.run.history)
            try:
                write_bytes(self.home / METRICS, rows.encode())  # rows after the checkpoint will be made again
            except OSError as error:
                raise _unwritable(self.home, error) from error
        for earlier in self.run.history:
            self.follow(earlier)
        if self.progress is None and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.config.steps, initial=self.run.step, unit="step", desc="train")
        return self.row

    def row(self) -> None:
        row = self.run.history[-1]
        if self.home:
            try:
                with open(self.home / METRICS, "a") as file:
                    file.write(json.dumps(row) + "\n")
            except OSError as error:
                raise _unwritable(self.home, error) from error
        self.follow(row)
        if self.progress:
            self.progress(self.run.step, self.config.steps, row["loss"])
        elif self.bar is not None:
            self.bar.set_postfix(loss=f"{row['loss']:.4f}")
            self.bar.update(self.run.step - self.bar.n)

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def silent(step: int, steps: int, loss: float) -> None:
    """The progress call of a training that shows nothing: several bars would overwrite each other."""
