"""Which runs an executor executes, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from experiments.harness.execution.tuning import runs_and_variants
from experiments.harness.provenance import cores
from experiments.harness.run import Run, run_id
from synth.errors import UserError


class RunSource(Protocol):
    """Lists runs, the same in every process: an Experiment or `StaticRuns`."""

    def runs(self, scale: str, seeds: int | None = None) -> Sequence[Run]: ...


@dataclass(frozen=True)
class StaticRuns:
    """A fixed list of runs that belong to no experiment."""

    all_runs: tuple[Run, ...]

    def runs(self, scale: str, seeds: int | None = None) -> Sequence[Run]:
        return self.all_runs


@dataclass(frozen=True)
class JobSpec:
    """The runs of a source, for workers to look up by id. tracker: of lm.training.trackers, or "" for none."""

    source: RunSource
    scale: str
    seeds: int | None
    runs_dir: Path
    tracker: str = ""

    def run_by_id(self, identity: str) -> Run:
        """The run with this id. Raises UserError if the source does not list it (any more)."""
        runs = _all_by_id(self)
        if identity not in runs:
            raise UserError(f"the experiment has no run {identity} any more; run the same command again")
        return runs[identity]


@lru_cache(maxsize=1)
def _all_by_id(spec: JobSpec) -> dict[str, Run]:
    return {run_id(run): run for run in runs_and_variants(spec.source.runs(spec.scale, spec.seeds))}


@dataclass(frozen=True)
class ExecutorConfig:
    """How runs are executed.

    executor: one of EXECUTORS. jobs: processes at a time (None: the executor's default). address: of a running Ray
    cluster, or "local" to run Slurm's jobs on this machine. gpus_per_run: may be a fraction (None: 1 if Ray has GPUs,
    0 with Slurm). sbatch_options: as KEY=VALUE. Raises UserError for options that the executor does not take.
    """

    executor: str = "inline"
    jobs: int | None = None
    address: str = ""
    gpus_per_run: float | None = None
    sbatch_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.address and self.executor == "inline":
            raise UserError("--address is for a cluster; add --executor ray or --executor slurm")
        if self.gpus_per_run is not None and self.executor == "inline":
            raise UserError("--gpus is for a cluster; add --executor ray or --executor slurm")
        if self.sbatch_options and self.executor != "slurm":
            raise UserError("--slurm gives options to sbatch; add --executor slurm")


def default_jobs() -> int:
    """One process per core, or a single one if there is a GPU."""
    import torch

    return 1 if torch.cuda.is_available() else cores()
