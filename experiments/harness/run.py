"""What one run is: a task, a model, a training, some evaluations and three seeds, all frozen.

A run's id is the hash of all of its fields and of the task's version, so that two different runs never share a result
and an unknown setting raises where it is written.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from synth.errors import UserError
from synth.identity import digest, identity_name
from synth.task import Task

if TYPE_CHECKING:
    from lm import ModelConfig, TrainConfig

SCALES = ("smoke", "laptop", "overnight", "gpu", "paper")
Rows = list[dict[str, Any]]
MATCHED = "matched"  # a tag: the parameters that the model is to have about as many of; the dry run shows how near
RESERVED = frozenset(
    ["run", "experiment", "scale", "seed_data", "seed_init", "seed_order", "evaluation"]
    + ["parameters", "exposures", "exposures_min", "exposures_max", "tokens", "steps", "train_loss"]
    + ["git_commit", "device", "seconds", "diverged", "diverged_at"]
)
MOST_SEEDS = 100  # of a configuration


@dataclass(frozen=True)
class Seeds:
    """data: the world and the documents; init: the weights at the start; order: the order in which items are shown."""

    data: int = 0
    init: int = 0
    order: int = 0

    @classmethod
    def numbered(cls, k: int) -> "Seeds":
        """The k-th repetition: all three seeds are k, and their streams differ by what they are for."""
        return cls(k, k, k)


class Evaluation(Protocol):
    """A frozen dataclass that asks a trained model something; its fields are its configuration.

    Its plain fields (numbers, text) become columns of the table beside what `measure` gives. It may also have
    `tokens(task) -> int`, how many tokens the model reads or writes, which the dry run counts.
    """

    def measure(self, model: Any, task: Task, data_seed: int, seed: int) -> dict[str, Any] | Rows:
        """One row of metrics, or several (one per slice).

        model: an lm Decoder, or None when the run has none; data_seed: the world of the run; seed: for the evaluation's
        own draws (the run's init seed).
        """
        ...


@dataclass(frozen=True)
class Stage:
    """A training that goes on with the model of the one before it, with the seeds of the run.

    rank 0: of all weights. Else by adapters (lm.transforms.lora) of that rank in queries and values, and of embed_rank
    in the embedding (0 for none), which are then written into the weights: tied embeddings become two tables.
    """

    task: Task
    train: "TrainConfig"
    rank: int = 0
    embed_rank: int = 0

    def __post_init__(self) -> None:
        if self.rank < 0 or self.embed_rank < 0 or (self.embed_rank and not self.rank):
            ranks = f"rank={self.rank}, embed_rank={self.embed_rank}"
            raise UserError(f"a stage cannot have {ranks}; give rank 0 for all weights, or at least rank 1")


@dataclass(frozen=True)
class Run:
    """One training, those that follow it, and what is measured after the last.

    task: what the first training is on, and what evaluations are given. train None: the model is measured as it was
    initialised (a control); model None: only the task is measured. then: trainings that follow, on tasks with the same
    vocabulary. tags: columns that name this run in tables and figures, e.g. {"architecture": "rotary"}.
    """

    experiment: str
    task: Task
    model: "ModelConfig | None"
    train: "TrainConfig | None"
    evaluations: tuple[Any, ...] = ()
    seeds: Seeds = Seeds()
    tags: tuple[tuple[str, Any], ...] | Mapping[str, Any] = ()
    then: tuple[Stage, ...] = field(default=(), metadata={"neutral": ()})

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(dict(self.tags).items()))
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        object.__setattr__(self, "then", tuple(self.then))
        if taken := RESERVED & dict(self.tags).keys():
            raise UserError(f"a run of {self.experiment} has a tag {min(taken)!r}, a column of the harness; rename it")
        for evaluation in self.evaluations:
            if shared := settings_of(evaluation).keys() & (RESERVED | dict(self.tags).keys()):
                name = f"a run of {self.experiment}: {identity_name(type(evaluation))}"
                raise UserError(f"{name} has a field {min(shared)!r}, a column of the run; rename the tag or the field")
        if self.model is None and self.train is not None:
            raise UserError(f"a run of {self.experiment} has a training but no model; give a model or train=None")
        if self.then and self.train is None:
            raise UserError(f"a run of {self.experiment} goes on from no training; make the first stage its train")

    @property
    def label(self) -> str:
        """The tags in words, without empty ones."""
        tags = {key: value for key, value in dict(self.tags).items() if value not in ("", None) and key != MATCHED}
        return ", ".join(f"{key} {value}" for key, value in tags.items()) or self.experiment

    @property
    def steps(self) -> int:
        """Optimizer steps of all trainings."""
        return sum(stage.train.steps for stage in self.trainings)

    @property
    def trainings(self) -> tuple[Stage, ...]:
        """All trainings, in order."""
        return (Stage(self.task, self.train), *self.then) if self.train else ()


def settings_of(evaluation: Any) -> dict[str, Any]:
    """The fields of an evaluation that become columns: numbers and texts."""
    values = {identity_name(f): getattr(evaluation, f.name) for f in fields(evaluation)}
    return {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str))}


def run_id(run: Run) -> str:
    """Twelve hexadecimal characters that stand for everything that decides the run's result: its fields, and the
    versions of its tasks, of lm and of its evaluations, which are raised when a mended fault changes results."""
    from lm.config import VERSION

    evaluations = [getattr(evaluation, "version", 1) for evaluation in run.evaluations]
    later = [[stage.task.version for stage in run.then]] if run.then else []
    return digest([run, run.task.version, VERSION, evaluations, *later], size=6)


def configuration_id(run: Run) -> str:
    """The id of a run whatever its seeds: repetitions of one configuration share it."""
    return run_id(replace(run, seeds=Seeds()))


def replicate(runs: Iterable[Run], seeds: int) -> list[Run]:
    """Every distinct configuration with the seeds numbered 0..seeds-1; seed 0 of every configuration comes first."""
    if seeds < 1:
        raise UserError(f"{seeds} seeds give no run; ask for at least 1")
    if seeds > MOST_SEEDS:
        raise UserError(f"{seeds} seeds are more than any interval needs; ask for at most {MOST_SEEDS}")
    configurations = {configuration_id(run): run for run in runs}.values()
    return [replace(run, seeds=Seeds.numbered(k)) for k in range(seeds) for run in configurations]


def in_order(runs: Iterable[Run]) -> list[Run]:
    """The runs without repetitions, the first seed of every configuration before any second one."""
    waves: dict[int, list[Run]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for run in {run_id(run): run for run in runs}.values():
        configuration = configuration_id(run)
        waves[seen[configuration]].append(run)
        seen[configuration] += 1
    return [run for wave in sorted(waves) for run in waves[wave]]
