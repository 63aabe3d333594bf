"""What changes while a model trains, and how it goes to a checkpoint and comes back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.config import TrainConfig
from lm.model import Decoder
from lm.resume import checkpoints, read_checkpoint, write_checkpoint
from synth.corpus import Cursor
from synth.errors import UserError
from synth.task import Task


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
                "model": asdict(model.config),
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


def save_run(home: Path, identity: Mapping[str, Any], model: Decoder, run: Run) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
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
    home.mkdir(parents=True, exist_ok=True)
    found = checkpoints(home)
    if not found:
        return
    tensors, state = read_checkpoint(found[-1])
    for name, value in identity.items():
        if state["identity"].get(name) != value:
            raise UserError(f"{found[-1]} belongs to a run with another {name}; use another folder or delete it")
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    memory: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            memory.setdefault(int(number), {})[name] = tensor
    run.optimizer.load_state_dict({"state": memory, "param_groups": run.optimizer.state_dict()["param_groups"]})
    run.step, run.pending, run.cursor = state["step"], state["pending"], Cursor(**state["cursor"])
    run.history.extend(state["rows"])
    run.history.tokens, run.history.documents = state["counts"]["tokens"], state["counts"]["documents"]
    run.history.seconds = state["counts"]["seconds"]
    if "exposures" in tensors:
        run.history.exposures = tensors["exposures"].numpy()
