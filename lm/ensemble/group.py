"""The group of models that lm.ensemble.train_many trains at once: each model's own state, and their common step."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm.config import TrainConfig
from lm.data.batches import TrainBatch
from lm.ensemble.stacked_model import (
    StackedAdamW,
    StackedDecoder,
    StackedObjective,
    Unstackable,
    parameters_in_optimizer_order,
)
from lm.model import Decoder
from lm.training.distributed import dist_context
from lm.training.history import Diverged
from lm.training.loop import init_train_state, record_batch, require_finite_loss, require_finite_weights
from lm.training.schedule import learning_rate
from lm.training.snapshots import take_snapshot
from lm.training.step import Objective, compile_if_asked, uses_bf16
from lm.training.train_state import TrainState, run_fingerprint
from synth.mixture import AnyCorpus
from synth.task import TrainingData

ADAMW_STATE = ("exp_avg", "exp_avg_sq")  # AdamW's state of a weight, by torch's names
StreamKey = tuple[str, int, int]
OnModelSnapshot = Callable[[int, int, Decoder], bool]  # number of the model in the list, step, model; True ends it


@dataclass
class Member:
    """One model of the group, with the training state that lm.train would keep."""

    number: int
    model: Decoder
    task: TrainingData
    config: TrainConfig
    data_seed: int
    order_seed: int
    folder: Path | None
    state: TrainState = field(init=False)
    fingerprint: dict[str, Any] = field(init=False)

    @property
    def stream_key(self) -> StreamKey:
        """Members with equal keys read the same batches."""
        return self.task.key, self.data_seed, self.order_seed

    def init_state(self, corpus: AnyCorpus, log_every: int) -> None:
        """The state of step 0."""
        self.state = init_train_state(self.model, corpus, self.config)
        own = (self.model, self.task, self.config, self.data_seed, self.order_seed, log_every)
        self.fingerprint = run_fingerprint(*own) if self.folder else {}


class Ensemble:
    """The models still in training, stacked; `diverged` maps the numbers of models that diverged to their errors."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.diverged: dict[int, Diverged] = {}
        self.last_time = time.perf_counter()
        self._stack(members)

    def _stack(self, members: Sequence[Member]) -> None:
        self.members, config = list(members), members[0].config
        self.device = dist_context().device
        self.model = StackedDecoder([m.model for m in members])
        memory = [torch.stack([_stacked_optimizer_state(m, name) for m in members]) for name in ADAMW_STATE]
        self.optimizer = StackedAdamW(self.model, [m.config for m in members], *memory)
        self.net = compile_if_asked(StackedObjective(self.model), config, self.device, cuda_graphs=True)
        self.bf16 = uses_bf16(config, self.device)
        self.pending = torch.tensor([float(m.state.loss_sum) for m in members], device=self.device)
        self.checked = False

    def step(self, batches: Mapping[StreamKey, TrainBatch], number: int) -> None:
        """Take step 0, 1, ... of every model, each with the batch of its stream."""
        data = [batches[member.stream_key] for member in self.members]
        batch = [self._concat(data, name) for name in ("inputs", "targets", "documents")]
        if not self.checked:
            self._check_same_losses(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            counts = torch.tensor([float(max(each.num_targets, 1)) for each in data])
            losses = self.net(*batch) / counts.to(self.device, non_blocking=True)
        losses.sum().backward()
        self.optimizer.step(number, [learning_rate(member.config, number) for member in self.members])
        self.pending += losses.detach()
        for member, each in zip(self.members, data, strict=True):
            record_batch(member.state, each, 0.0)

    def _concat(self, data: Sequence[TrainBatch], name: str) -> Tensor | None:
        parts = [getattr(each, name) for each in data]
        return None if parts[0] is None else torch.cat(parts).to(self.device, non_blocking=True)

    @torch.no_grad()
    def _check_same_losses(self, batch: Sequence[Tensor | None]) -> None:
        """Raise Unstackable when the stacked models give other losses than each alone: an architecture may contain
        something that lm/ensemble/stacked_model.py does not handle."""
        self.checked, count = True, len(self.members)
        try:
            found = StackedObjective(self.model)(*batch)
            parts = [[None] * count if each is None else each.chunk(count) for each in batch]
            alone = [Objective(m.model)(*own) for m, *own in zip(self.members, *parts, strict=True)]
        except Exception as error:  # a user's mixer may do anything with a layer
            said = " ".join(str(error).split())
            raise Unstackable(f"these models cannot be trained together ({said}); train them one by one") from error
        if not torch.allclose(found, torch.stack(alone), rtol=1e-3, equal_nan=True):
            raise Unstackable("these models give other losses together than alone; train them one by one")

    def sync_histories(self, log: bool, weights_too: bool) -> None:
        """Write losses since the last row and time since the last call to the members' states; log: a row is made of
        them now; weights_too: write weights and optimizer state as well."""
        now = time.perf_counter()
        for member, loss in zip(self.members, self.pending.tolist(), strict=True):
            member.state.loss_sum = loss
            member.state.history.seconds += (now - self.last_time) / len(self.members)
        if log:  # not between rows: a stop must not change the order of the sum
            self.pending.zero_()
        self.last_time = now
        if weights_too:
            self.write_back()

    @torch.no_grad()
    def write_back(self) -> None:
        """Write weights and optimizer state back to the members."""
        rows = zip(self.members, self.model.table, self.optimizer.mean, self.optimizer.square, strict=True)
        for member, *row in rows:
            own = list(parameters_in_optimizer_order(member.model).values())
            count = torch.tensor(float(member.state.step), device=self.device)
            for parameter, *parts in zip(own, *(part.split([p.numel() for p in own]) for part in row), strict=True):
                weight, *memory = (part.view_as(parameter) for part in parts)
                parameter.copy_(weight)
                kept = {name: part.clone() for name, part in zip(ADAMW_STATE, memory, strict=True)}
                member.state.optimizer.state[parameter] = {"step": count.clone(), **kept}

    def take_snapshots(self, on_snapshot: OnModelSnapshot) -> None:
        """Call on_snapshot with every model, whose weights must be written back, and note which of them end here; one
        that is not finite is noted as diverged instead."""
        for member in self.members:
            try:
                require_finite_loss(member.state)
                require_finite_weights(member.model, member.state)
            except Diverged as error:
                self.diverged[member.number] = error
                continue
            paused = time.perf_counter()
            member.state.ended = take_snapshot(member.state.step, member.model, partial(on_snapshot, member.number))
            self.last_time += time.perf_counter() - paused

    def still_finite(self) -> list[Member]:
        """The members that have not diverged."""
        return [member for member in self.members if member.number not in self.diverged]

    def drop_finished(self) -> "Ensemble | None":
        """The ensemble without the models that diverged or ended, or None when no model is left."""
        left = [member for member in self.still_finite() if not member.state.ended]
        if left and len(left) < len(self.members):
            self.write_back()
            self._stack(left)
        return self if left else None


def _stacked_optimizer_state(member: Member, name: str) -> Tensor:
    """One tensor of AdamW's state over all parameters, (P,); zeros before the first step."""
    state, parameters = member.state.optimizer.state, parameters_in_optimizer_order(member.model).values()
    rows = [state[p][name] if p in state else torch.zeros_like(p) for p in parameters]
    return torch.cat([row.detach().flatten() for row in rows])
