"""A run: a task, a model, its training stages, evaluations and three seeds, all frozen.

A run's id is the hash of all of its fields and of the task's version, so that two different runs never share a result
and an unknown setting raises where it is written.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from synth.errors import UserError
from synth.identity import digest, identity_name
from synth.task import TrainingData

if TYPE_CHECKING:
    from experiments.harness.curve import Curve
    from experiments.harness.grid import Grid
    from lm import ModelConfig, TrainConfig

SCALES = ("smoke", "laptop", "overnight", "gpu", "paper")
Rows = list[dict[str, Any]]
# a tag: the number of parameters that the model should have; the dry run shows how near it comes
MATCHED_PARAMETERS = "matched"
RESERVED_COLUMNS = frozenset(
    ["run", "experiment", "scale", "seed_data", "seed_init", "seed_order", "evaluation"]
    + ["parameters", "exposures", "exposures_min", "exposures_max", "tokens", "steps", "train_loss"]
    + ["git_commit", "device", "seconds", "diverged", "diverged_at", "step", "looks", "grid_edge", "grid_size"]
)
MAX_SEEDS = 100  # per configuration


@dataclass(frozen=True)
class Seeds:
    """Seeds of a run. data: the world and its documents; init: initial weights; order: order of the training items."""

    data: int = 0
    init: int = 0
    order: int = 0

    @classmethod
    def all_equal(cls, k: int) -> "Seeds":
        """Seeds (k, k, k); the three random streams still differ, as each is keyed by its purpose too."""
        return cls(k, k, k)


class Evaluation(Protocol):
    """A measurement of a trained model: a frozen dataclass whose fields are its configuration.

    Its plain fields (numbers, text) become columns of the table beside what `measure` gives. It may also have
    `tokens(task) -> int`, how many tokens the model reads or writes, which the dry run counts.
    """

    def measure(self, model: Any, task: TrainingData, data_seed: int, seed: int) -> dict[str, Any] | Rows:
        """One row of metrics, or several (one per slice).

        model: an lm Decoder, or None when the run has none; data_seed: the world of the run; seed: for the evaluation's
        own draws (the run's init seed).
        """
        ...


@dataclass(frozen=True)
class Stage:
    """One training of a run's model, which continues from the weights of the stage before it.

    lora_rank: 0 trains all weights; otherwise LoRA adapters (lm.transforms.lora) of that rank on queries and values are
    trained and merged into the weights. lora_embed_rank: rank of an adapter on the embedding, 0 for none; merging it
    unties tied embeddings. frozen_names: names of people keep their embeddings, so that questions about some people are
    not answered by their names alone. Raises UserError for negative ranks, or an embedding rank without lora_rank.
    """

    task: TrainingData
    train: "TrainConfig"
    lora_rank: int = field(default=0, metadata={"identity": "rank"})
    lora_embed_rank: int = field(default=0, metadata={"identity": "embed_rank"})
    frozen_names: bool = field(default=False, metadata={"neutral": False})

    def __post_init__(self) -> None:
        if self.lora_rank < 0 or self.lora_embed_rank < 0 or (self.lora_embed_rank and not self.lora_rank):
            ranks = f"lora_rank={self.lora_rank}, lora_embed_rank={self.lora_embed_rank}"
            raise UserError(f"a stage cannot have {ranks}; give lora_rank 0 for all weights, or at least 1")


@dataclass(frozen=True)
class Run:
    """One experimental run: a task, a model, its training stages and the evaluations of the final model.

    task: data of the first stage; evaluations are measured on it. model None: evaluations measure the task alone.
    train None: the model is evaluated at initialization (a control). later_stages: further trainings, on tasks with
    the same vocabulary. tags: columns that name this run in tables and figures, e.g. {"architecture": "rotary"}.
    curve: evaluations during training; grid: settings of one stage to choose from on other seeds, which then replace
    that stage's. Raises UserError for tags and evaluation fields that clash with columns of the harness.
    """

    experiment: str
    task: TrainingData
    model: "ModelConfig | None"
    train: "TrainConfig | None"
    evaluations: tuple[Any, ...] = ()
    seeds: Seeds = Seeds()
    tags: tuple[tuple[str, Any], ...] | Mapping[str, Any] = ()
    later_stages: tuple[Stage, ...] = field(default=(), metadata={"neutral": (), "identity": "then"})
    curve: "Curve | None" = field(default=None, metadata={"neutral": None})
    grid: "Grid | None" = field(default=None, metadata={"neutral": None})

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", tuple(dict(self.tags).items()))
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        object.__setattr__(self, "later_stages", tuple(self.later_stages))
        if taken := RESERVED_COLUMNS & dict(self.tags).keys():
            raise UserError(f"a run of {self.experiment} has a tag {min(taken)!r}, a column of the harness; rename it")
        curve, grid = self.curve, self.grid
        others = [*(curve.evaluations if curve else ()), *(grid.evaluations if grid else ())]
        for evaluation in (*self.evaluations, *others):
            if shared := evaluation_settings(evaluation).keys() & (RESERVED_COLUMNS | dict(self.tags).keys()):
                name = f"a run of {self.experiment}: {identity_name(type(evaluation))}"
                raise UserError(f"{name} has a field {min(shared)!r}, a column of the run; rename the tag or the field")
        if self.model is None and self.train is not None:
            raise UserError(f"a run of {self.experiment} has a training but no model; give a model or train=None")
        if self.later_stages and self.train is None:
            raise UserError(f"a run of {self.experiment} goes on from no training; make the first stage its train")
        if self.curve is not None and self.curve.steps[-1] > self.steps:
            steps = f"step {self.curve.steps[-1]} of its curve, and trains {self.steps} steps"
            raise UserError(f"a run of {self.experiment} never comes to {steps}; leave that step out")
        if self.grid is not None:
            self._check_grid(self.grid)

    def _check_grid(self, grid: "Grid") -> None:
        if grid.stage >= len(self.stages):
            raise UserError(f"a run of {self.experiment} has no stage {grid.stage} for its grid; stages count from 0")
        settings = grid.settings(grid.candidates[0]).keys()
        if taken := settings & RESERVED_COLUMNS:
            raise UserError(f"a grid of {self.experiment} cannot choose {min(taken)!r}, a column of the harness")
        if self.curve is not None and min(c.steps for c in grid.candidates) < self.stages[grid.stage].train.steps:
            problem = "has a curve, and a grid with fewer steps than its train"
            raise UserError(f"a run of {self.experiment} {problem}; give its train the least steps of the grid")
        if taken := settings & dict(self.tags).keys():
            problem = f"a tag {min(taken)!r}, which its grid chooses"
            raise UserError(f"a run of {self.experiment} has {problem}; leave the tag out, the table has a column")

    @property
    def label(self) -> str:
        """The non-empty tags as text, e.g. "architecture rotary, lr 0.001"; without any the experiment's name."""
        tags = {
            key: value
            for key, value in dict(self.tags).items()
            if value not in ("", None) and key != MATCHED_PARAMETERS
        }
        return ", ".join(f"{key} {value}" for key, value in tags.items()) or self.experiment

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages; a training that stops at a plateau takes fewer."""
        return sum(stage.train.steps for stage in self.stages)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All trainings in order: the first, then `later_stages`; empty without `train`."""
        return (Stage(self.task, self.train), *self.later_stages) if self.train else ()

    @property
    def curve_evaluations(self) -> tuple[Any, ...]:
        """What is measured during training; empty without a curve."""
        return (self.curve.evaluations or self.evaluations) if self.curve else ()

    @cached_property
    def without_seeds(self) -> "Run":
        """The run with the seeds (0, 0, 0)."""
        return replace(self, seeds=Seeds())

    def with_stage_settings(self, number: int, train: "TrainConfig") -> "Run":
        """The run with other settings of stage `number` (from 0), and without its grid."""
        if number == 0:
            return replace(self, train=train, grid=None)
        later = list(self.later_stages)
        later[number - 1] = replace(later[number - 1], train=train)
        return replace(self, later_stages=tuple(later), grid=None)

    def snapshot_steps(self, number: int) -> tuple[int, ...]:
        """The steps within stage `number` (from 0) at which the curve keeps the model; the stage's end is left out."""
        if self.curve is None:
            return ()
        before = sum(stage.train.steps for stage in self.stages[:number])
        return tuple(s - before for s in self.curve.steps if 0 < s - before < self.stages[number].train.steps)


def evaluation_settings(evaluation: Any) -> dict[str, Any]:
    """The fields of an evaluation that become columns of the table: numbers, booleans and strings."""
    values = {identity_name(f): getattr(evaluation, f.name) for f in fields(evaluation)}
    return {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str))}


def run_id(run: Run) -> str:
    """Hash of everything that determines the run's result, as 12 hexadecimal characters.

    It covers the run's fields and the versions of its tasks, of lm and of its evaluations; a version is raised when a
    bug fix changes results.
    """
    from lm.config import VERSION

    evaluations = [getattr(evaluation, "version", 1) for evaluation in run.evaluations]
    later = [[stage.task.version for stage in run.later_stages]] if run.later_stages else []
    others = [*(run.curve.evaluations if run.curve else ()), *(run.grid.evaluations if run.grid else ())]
    later += [[getattr(evaluation, "version", 1) for evaluation in others]] if others else []
    return digest([run, run.task.version, VERSION, evaluations, *later], size=6)


def configuration_id(run: Run) -> str:
    """Id of the run without its seeds, shared by all repetitions of a configuration."""
    return run_id(run.without_seeds)


def with_seeds(runs: Iterable[Run], seeds: int) -> list[Run]:
    """Repeat every distinct configuration with seeds 0..seeds-1, seed-major: all of seed 0 first.

    Raises UserError unless 1 <= seeds <= 100.
    """
    if seeds < 1:
        raise UserError(f"{seeds} seeds give no run; ask for at least 1")
    if seeds > MAX_SEEDS:
        raise UserError(f"{seeds} seeds are more than any interval needs; ask for at most {MAX_SEEDS}")
    configurations = {configuration_id(run): run for run in runs}.values()
    return [replace(run, seeds=Seeds.all_equal(k)) for k in range(seeds) for run in configurations]


def default_seeds(scale: str) -> int:
    """Seeds per configuration unless an experiment says otherwise: three, and one at smoke."""
    return 1 if scale == "smoke" else 3


def seed_major_order(runs: Iterable[Run]) -> list[Run]:
    """The runs without repetitions, the first seed of every configuration before any second one."""
    waves: dict[int, list[Run]] = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for run in {run_id(run): run for run in runs}.values():
        configuration = configuration_id(run)
        waves[seen[configuration]].append(run)
        seen[configuration] += 1
    return [run for wave in sorted(waves) for run in waves[wave]]
