"""The models that lm.ensemble.train_many trains at once: what each keeps for itself, and the step that they take
together."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lm.config import TrainConfig
from lm.data.batches import Feed
from lm.ensemble.stacked_model import AdamWs, Objectives, Together, Unstackable, in_order
from lm.model import Decoder
from lm.training.distributed import where
from lm.training.loop import advance, begin
from lm.training.step import Objective, compiled, in_bf16, learning_rate
from lm.training.train_state import Diverged, Run, identity_of
from synth.mixture import Stream
from synth.task import Task

MEMORY = ("exp_avg", "exp_avg_sq")  # what AdamW remembers of every weight, by torch's names
Source = tuple[str, int, int]


@dataclass
class Member:
    """One model, and what lm.train would keep of its training."""

    number: int
    model: Decoder
    task: Task
    config: TrainConfig
    data_seed: int
    order_seed: int
    home: Path | None
    run: Run = field(init=False)
    identity: dict[str, Any] = field(init=False)

    @property
    def stream(self) -> Source:
        """Members with the same one read the same batches."""
        return self.task.key, self.data_seed, self.order_seed

    def begin(self, corpus: Stream, log_every: int) -> None:
        """The state of step 0."""
        self.run = begin(self.model, corpus, self.config)
        own = (self.model, self.task, self.config, self.data_seed, self.order_seed, log_every)
        self.identity = identity_of(*own) if self.home else {}


class Crew:
    """The models that are still trained, as one; `lost` says which have diverged."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.lost: dict[int, Diverged] = {}
        self.at = time.perf_counter()
        self._gather(members)

    def _gather(self, members: Sequence[Member]) -> None:
        self.members, config = list(members), members[0].config
        self.device = where().device
        self.model = Together([m.model for m in members])
        memory = [torch.stack([_memory(m, name) for m in members]) for name in MEMORY]
        self.optimizer = AdamWs(self.model, [m.config for m in members], *memory)
        self.net = compiled(Objectives(self.model), config, self.device, graphs=True)
        self.bf16 = in_bf16(config, self.device)
        self.pending = torch.tensor([float(m.run.pending) for m in members], device=self.device)
        self.tried = False

    def step(self, lots: Mapping[Source, Feed], number: int) -> None:
        """Take step 0, 1, ... of every model with the batch of its stream."""
        data = [lots[member.stream] for member in self.members]
        batch = [self._rows(data, name) for name in ("inputs", "targets", "documents")]
        if not self.tried:
            self._try(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            counts = torch.tensor([float(max(each.trained, 1)) for each in data])
            losses = self.net(*batch) / counts.to(self.device, non_blocking=True)
        losses.sum().backward()
        self.optimizer.step(number, [learning_rate(member.config, number) for member in self.members])
        self.pending += losses.detach()
        for member, each in zip(self.members, data, strict=True):
            advance(member.run, each, 0.0)

    def _rows(self, data: Sequence[Feed], name: str) -> Tensor | None:
        parts = [getattr(each, name) for each in data]
        return None if parts[0] is None else torch.cat(parts).to(self.device, non_blocking=True)

    @torch.no_grad()
    def _try(self, batch: Sequence[Tensor | None]) -> None:
        """Raise Unstackable when the models together do not give the losses they give alone: an architecture may hold
        something that lm/ensemble/stacked_model.py does not foresee."""
        self.tried, count = True, len(self.members)
        try:
            found = Objectives(self.model)(*batch)
            parts = [[None] * count if each is None else each.chunk(count) for each in batch]
            alone = [Objective(m.model)(*own) for m, *own in zip(self.members, *parts, strict=True)]
        except Exception as error:  # whatever the code of an architecture of one's own asks of a layer
            said = " ".join(str(error).split())
            raise Unstackable(f"these models cannot be trained together ({said}); train them one by one") from error
        if not torch.allclose(found, torch.stack(alone), rtol=1e-3, equal_nan=True):
            raise Unstackable("these models give other losses together than alone; train them one by one")

    def settle(self, log: bool, store: bool) -> None:
        """Hand the losses since the last row and the time since the last call to the members' runs; log: a row is made
        of them now; store: hand over their weights too."""
        now = time.perf_counter()
        for member, loss in zip(self.members, self.pending.tolist(), strict=True):
            member.run.pending = loss
            member.run.history.seconds += (now - self.at) / len(self.members)
        if log:  # a stop between two rows must not change the order in which the losses are added
            self.pending.zero_()
        self.at = now
        if store:
            self.store()

    @torch.no_grad()
    def store(self) -> None:
        """Write weights and the optimizer's memory back to the members."""
        rows = zip(self.members, self.model.table, self.optimizer.mean, self.optimizer.square, strict=True)
        for member, *row in rows:
            own = list(in_order(member.model).values())
            count = torch.tensor(float(member.run.step), device=self.device)
            for parameter, *parts in zip(own, *(part.split([p.numel() for p in own]) for part in row), strict=True):
                weight, *memory = (part.view_as(parameter) for part in parts)
                parameter.copy_(weight)
                kept = {name: part.clone() for name, part in zip(MEMORY, memory, strict=True)}
                member.run.optimizer.state[parameter] = {"step": count.clone(), **kept}

    def without_the_lost(self) -> "Crew | None":
        """Go on without the models that have diverged; None when no model is left."""
        left = [member for member in self.members if member.number not in self.lost]
        if left and len(left) < len(self.members):
            self.store()
            self._gather(left)
        return self if left else None


def _memory(member: Member, name: str) -> Tensor:
    """One kind of the optimizer's memory as a row, (P,); zeros before the first step."""
    state, parameters = member.run.optimizer.state, in_order(member.model).values()
    rows = [state[p][name] if p in state else torch.zeros_like(p) for p in parameters]
    return torch.cat([row.detach().flatten() for row in rows])
