"""What the experiments on people share (Part 3.1, arXiv 2309.14316; Part 3.2, arXiv 2309.14402): worlds of people and
ways to tell of them, models, trainings on biographies and on questions, at our sizes and at the paper's.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.harness.run import Stage
from lm.config import ModelConfig, TrainConfig
from probing.capacity.bits_per_parameter import CapacityWarning
from synth.mixture import Mixture
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

# These models could hold far more than the people have to tell, on purpose: what can be asked for is the question.
warnings.filterwarnings("ignore", category=CapacityWarning)

WORDINGS: Mapping[str, dict[str, Any]] = {
    "single": {"wordings": 1},
    "single+fullname": {"wordings": 1, "fullname": True},
    "single+permute1": {"wordings": 1, "permute": 1},
    "single+permute5": {"wordings": 1, "permute": 5},
    "multi2": {"wordings": 2},
    "multi5": {"wordings": 5},
    "multi5+fullname": {"wordings": 5, "fullname": True},
    "multi5+permute": {"wordings": 5, "permute": 1},
    "multi5+permute+fullname": {"wordings": 5, "permute": 1, "fullname": True},
}
# The name comes first in the second sentence, in the third, or after all of them (Part 3.2, section 5).
REVERSED: Mapping[str, dict[str, Any]] = {
    "multi5+reverse1": {"wordings": 5, "reverse": 1},
    "multi5+reverse2": {"wordings": 5, "reverse": 2},
    "multi5+reverse6": {"wordings": 5, "reverse": 6},
    "multi5+permute+reverse6": {"wordings": 5, "permute": 1, "reverse": 6},
}
RECIPES = ("finetuned by LoRA", "finetuned in full", "mixed")


@dataclass(frozen=True)
class Effort:
    """How long and how fast one training goes."""

    steps: int
    lr: float
    warmup: int = 0
    decay: float = 0.01


@dataclass(frozen=True)
class Size:
    """People and lists, the model, rows of a batch and their length, and the efforts: on biographies alone, on
    biographies mixed with questions (`asked`: the questions' share), and of both kinds of finetuning, whose batches
    have half as many rows. ranks: of LoRA, for queries and values and for the embedding."""

    people: int
    layers: int
    heads: int
    width: int
    batch: int
    window: int
    read: Effort
    mixed: Effort
    full: Effort
    lora: Effort
    lists: Mapping[str, int] = field(default_factory=dict)
    asked: float = 0.5
    ranks: tuple[int, int] = (8, 64)
    model: Mapping[str, Any] = field(default_factory=dict)


# Names of one word are what lets a model of 0.2M parameters learn whom it reads about within minutes.
SHORT = {"first": 1, "middle": 1, "years": 20, "months": 12, "days": 10, "templates": 2, "questions": 1}
SHORT |= {"cities": 60, "universities": 60, "majors": 60, "employers": 60}
SMALL = {"context": 256, "init_std": 0.1}
PAPER = {"context": 512, "rotary_fraction": 0.25}
SIZES = {
    "smoke": Size(
        20, 1, 2, 16, 8, 64, Effort(20, 6e-3), Effort(20, 6e-3), Effort(10, 1e-3), Effort(10, 1e-3),
        {**SHORT, "last": 20}, ranks=(2, 4), model=SMALL,
    ),
    "laptop": Size(
        400, 3, 4, 64, 16, 64, Effort(2500, 6e-3, 100), Effort(2500, 6e-3, 100), Effort(1200, 1e-3), Effort(1200, 1e-3),
        {**SHORT, "last": 400}, model=SMALL,
    ),
    "overnight": Size(
        1600, 4, 4, 64, 32, 64, Effort(15_000, 3e-3, 500), Effort(15_000, 3e-3, 500), Effort(2000, 1e-3),
        Effort(2000, 1e-3), {**SHORT, "first": 20, "middle": 20, "last": 40, "templates": 5, "questions": 2},
        model=SMALL,
    ),
    "gpu": Size(
        20_000, 8, 8, 512, 96, 512, Effort(6000, 1e-3, 300, 0.1), Effort(9000, 1e-3, 300, 0.1), Effort(3000, 1e-4),
        Effort(3000, 3e-4), {"questions": 1}, 0.8, (8, 128), PAPER,
    ),
    "paper": Size(
        100_000, 12, 12, 768, 96, 512, Effort(80_000, 1e-3, 1000, 0.1), Effort(80_000, 1e-3, 1000, 0.1),
        Effort(50_000, 1e-4), Effort(50_000, 3e-4), {"questions": 1}, 0.8, (8, 128), PAPER,
    ),
}  # fmt: skip


def world(scale: str, wording: str, **changes: Any) -> BioS:
    """The people of a scale, told of in one of WORDINGS or REVERSED."""
    return BioS(**_fields(scale, wording, changes))


def questions(scale: str, wording: str, half: Any = "first", **changes: Any) -> BioQuestions:
    """The six questions about one half of them; in training the first, so that the second is held out."""
    return BioQuestions(half=half, **_fields(scale, wording, changes))


def manipulations(scale: str, wording: str, question: str, **changes: Any) -> BioManipulate:
    """Questions of Part 3.2 about the first half of them. Their biographies, and other questions, share their
    vocabulary with reasoning=True."""
    return BioManipulate(half="first", question=question, **_fields(scale, wording, changes))


def _fields(scale: str, wording: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    size = SIZES[scale]
    return {"people": size.people, **size.lists, **{**WORDINGS, **REVERSED}[wording], **changes}


def model(scale: str, **changes: Any) -> ModelConfig:
    """A rotary GPT-2."""
    size = SIZES[scale]
    return ModelConfig(**{"layers": size.layers, "heads": size.heads, "width": size.width, **size.model, **changes})


def mixture(scale: str, biographies: Any, *asked: Any) -> Mixture:
    """Rows of biographies and rows of questions, in the shares of the scale; kinds of questions have equal shares."""
    share = SIZES[scale].asked
    return Mixture((biographies, *asked), (1 - share, *[share / len(asked)] * len(asked)))


def reading(scale: str, **changes: Any) -> TrainConfig:
    """Training on biographies alone."""
    return _training(SIZES[scale], SIZES[scale].read, 1, **changes)


def mixing(scale: str, **changes: Any) -> TrainConfig:
    """Training on biographies and questions together."""
    return _training(SIZES[scale], SIZES[scale].mixed, 1, **changes)


def finetuning(scale: str, asked: Any, recipe: str, **changes: Any) -> Stage:
    """Finetuning on questions, in full or by LoRA."""
    size, adapted = SIZES[scale], recipe == "finetuned by LoRA"
    ranks = size.ranks if adapted else (0, 0)
    return Stage(asked, _training(size, size.lora if adapted else size.full, 2, **changes), *ranks)


def _training(size: Size, effort: Effort, parts: int, **changes: Any) -> TrainConfig:
    """AdamW and a cosine to a tenth of the rate, as the paper."""
    settings: dict[str, Any] = {
        "steps": effort.steps,
        "batch": size.batch // parts,
        "window": size.window,
        "lr": effort.lr,
    }
    settings |= {"warmup": effort.warmup, "weight_decay": effort.decay, "schedule": "cosine", "final_lr": 0.1}
    return TrainConfig(**{**settings, "eps": 1e-6, **changes})


# ---- tables ----------------------------------------------------------------------------------------------------
def title(table: "DataFrame", what: str, *by: str) -> str:
    """What was run, in a line: people, model size and seeds."""
    size, people = table["parameters"].median() / 1e6, int(table["people_told"].max())
    n = table.groupby(list(by))["seed_init"].nunique().min()
    return (
        f"{what}: {people:,} people, {size:.2g}M parameters; small dots are seeds, large ones their mean, bars its 95% "
        f"interval (n = {n})"
    )


def wrapped(axes: "Axes", names: Any) -> None:
    """Names of wordings under their places, broken where they are long."""
    axes.set_xticks(range(len(names)), [name.replace("+", "\n+") for name in names], fontsize=9)


def legend(axes: "Axes", **where: Any) -> None:
    """A legend where there is anything to name: a table that is not whole yet may have nothing for a panel."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**{"fontsize": 9, "loc": "upper left", "ncols": 2, **where})
