"""The state of a training beside the weights, and how it is saved to a checkpoint and restored."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder
from lm.training.checkpoint import DamagedCheckpoint, list_checkpoints, read_checkpoint, write_checkpoint
from lm.training.distributed import DistContext, any_rank, gather_full_tensors, max_over_ranks, shard_like
from lm.training.history import History
from synth.corpus import Cursor
from synth.errors import UserError
from synth.identity import identity_name
from synth.task import TrainingData


@dataclass
class TrainState:
    """Everything that changes while training, beside the weights."""

    optimizer: torch.optim.Optimizer
    cursor: Cursor
    step: int = 0
    loss_sum: Any = 0.0  # sum of the losses since the last row; a tensor until it is read
    history: History = field(default_factory=History)
    ended: bool = False  # by a snapshot: the last step is this one, whatever the configuration says


def run_fingerprint(
    model: Decoder, task: TrainingData, config: TrainConfig, data_seed: int, order_seed: int, log_every: int
) -> dict[str, Any]:
    """What must be equal for a checkpoint to be resumed: configurations, seeds, task, a hash of the initial weights."""
    weights = blake2b(digest_size=16)
    for _, tensor in sorted(model.state_dict().items()):
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    fingerprint = {
        "model": _by_identity(model.config) | model.config.contents(), "vocab_size": model.vocab_size,
        "initial_weights": weights.hexdigest(), "task": task.key, "train": _by_identity(config),
        "data_seed": data_seed, "order_seed": order_seed, "log_every": log_every,
    }  # fmt: skip
    return json.loads(json.dumps(fingerprint))  # as it is read from a checkpoint


def _by_identity(config: ModelConfig | TrainConfig) -> dict[str, Any]:
    return {identity_name(f): getattr(config, f.name) for f in fields(config)}


def save_checkpoint(
    home: Path, identity: Mapping[str, Any], model: Decoder, run: TrainState, write: bool = True
) -> None:
    """Write a checkpoint. All ranks must call it, as each may hold a shard of the weights; one of them writes."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in run.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    tensors = gather_full_tensors(tensors, write)
    if not write:
        return
    history = run.history
    if history.exposures is not None:
        tensors["exposures"] = torch.from_numpy(history.exposures)
    state = {
        "identity": identity,
        "step": run.step,
        "ended": run.ended,
        "cursor": asdict(run.cursor),
        "pending": run.loss_sum,
        "rows": list(history),
        "counts": {"tokens": history.tokens, "documents": history.documents, "seconds": history.seconds},
    }
    write_checkpoint(home, run.step, tensors, state)


def restore_checkpoint(home: Path, identity: Mapping[str, Any], model: Decoder, run: TrainState) -> None:
    """Load the newest checkpoint of `home`, if there is one, into model and run."""
    _load(_newest(home), identity, model, run)


def restore_on_all_ranks(
    home: Path, identity: Mapping[str, Any], model: Decoder, run: TrainState, place: DistContext
) -> None:
    """`restore_checkpoint` for several ranks: all load the same checkpoint or none does.

    Raises in all ranks, before anything is loaded: DamagedCheckpoint if any rank finds a damaged checkpoint, UserError
    if they find different ones.
    """
    found, damaged = None, None
    try:
        found = _newest(home)
    except DamagedCheckpoint as error:
        damaged = error
    if any_rank(damaged is not None, place):
        message = f"another rank finds a damaged checkpoint in {home}"
        raise damaged or DamagedCheckpoint.of_folder(home / "elsewhere", message)
    step = found.state["step"] if found else 0
    if any_rank(step != max_over_ranks(step, place), place):
        raise UserError(f"ranks find different checkpoints in {home}; give all machines the same folder of runs")
    _load(found, identity, model, run)


class _Found(NamedTuple):
    """A checkpoint as it was read."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def _newest(home: Path) -> _Found | None:
    found = list_checkpoints(home)
    return _Found(found[-1], *read_checkpoint(found[-1])) if found else None


def _load(found: _Found | None, identity: Mapping[str, Any], model: Decoder, run: TrainState) -> None:
    if found is None:
        return
    path, tensors, state = found
    for name, value in identity.items():
        if _with_neutral_fields(name, state["identity"].get(name)) != value:
            raise UserError(f"{path} belongs to a run with another {name}; use another folder or delete it")
    model.load_state_dict({k: shard_like(tensors[f"model.{k}"], old) for k, old in model.state_dict().items()})
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": _optimizer_state(tensors, run.optimizer), "param_groups": groups})
    run.step, run.loss_sum, run.cursor = state["step"], state["pending"], Cursor.from_dict(state["cursor"])
    run.ended = state.get("ended", False)  # checkpoints from before there were snapshots do not say
    run.history.extend(state["rows"])
    run.history.tokens, run.history.documents = state["counts"]["tokens"], state["counts"]["documents"]
    run.history.seconds = state["counts"]["seconds"]
    if "exposures" in tensors:
        run.history.exposures = tensors["exposures"].numpy()


def _optimizer_state(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimizer's state of each weight, by the weight's number."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    memory: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            of_weight = tensor.shape == weights[int(number)].shape  # else a count of steps
            part = shard_like(tensor, weights[int(number)]) if of_weight else tensor
            memory.setdefault(int(number), {})[name] = part
    return memory


def _with_neutral_fields(name: str, before: Any) -> Any:
    """A part of an older fingerprint, with fields that did not exist yet at their neutral values."""
    config = {"model": ModelConfig, "train": TrainConfig}.get(name)
    if config is None or not isinstance(before, dict):
        return before
    return {identity_name(f): f.metadata["neutral"] for f in fields(config) if "neutral" in f.metadata} | before
