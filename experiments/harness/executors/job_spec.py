"""What is to be carried out, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from experiments.harness.provenance import cores
from experiments.harness.run import Run, run_id
from synth.errors import UserError


class Source(Protocol):
    """What lists runs, in every process the same: an Experiment, or `Listed`."""

    def runs(self, scale: str, seeds: int | None = None) -> Sequence[Run]: ...


@dataclass(frozen=True)
class Listed:
    """Runs that are in no experiment's file."""

    listed: tuple[Run, ...]

    def runs(self, scale: str, seeds: int | None = None) -> Sequence[Run]:
        return self.listed


@dataclass(frozen=True)
class Plan:
    """What a worker needs to find its runs again; track: a tracker of lm.training.trackers, or "", that shows
    trainings."""

    experiment: Source
    scale: str
    seeds: int | None
    root: Path
    track: str = ""

    def named(self, identities: Sequence[str]) -> list[Run]:
        """The runs of these ids. Raises UserError where there is one that it does not have, or has no more."""
        runs = _by_id(self)
        if unknown := set(identities) - runs.keys():
            raise UserError(f"the experiment has no run {min(unknown)} any more; run the same command again")
        return [runs[identity] for identity in identities]


@lru_cache(maxsize=1)
def _by_id(plan: Plan) -> dict[str, Run]:
    return {run_id(run): run for run in plan.experiment.runs(plan.scale, plan.seeds)}


@dataclass(frozen=True)
class Where:
    """executor: one of EXECUTORS. jobs: processes at a time (None: as many as there is room for). address: of a running
    Ray cluster, or "local" for Slurm's jobs as processes of this machine. gpus: that a run takes, also a part of one.
    slurm: options of sbatch, as KEY=VALUE."""

    executor: str = "inline"
    jobs: int | None = None
    address: str = ""
    gpus: float | None = None
    slurm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.address and self.executor == "inline":
            raise UserError("--address is for a cluster; add --executor ray or --executor slurm")
        if self.gpus is not None and self.executor == "inline":
            raise UserError("--gpus is for a cluster; add --executor ray or --executor slurm")
        if self.slurm and self.executor != "slurm":
            raise UserError("--slurm gives options to sbatch; add --executor slurm")


def default_jobs() -> int:
    """One process per core, or a single one where a GPU does the work."""
    import torch

    return 1 if torch.cuda.is_available() else cores()
