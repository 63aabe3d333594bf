"""What the experiments on people share (Part 3.1, arXiv 2309.14316; Part 3.2, arXiv 2309.14402): tasks of biographies
and questions, models, and trainings at our sizes and at the paper's."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.harness.run import Stage
from lm.config import ModelConfig, TrainConfig
from lm.options import Packing
from probing.capacity.bits_per_parameter import CapacityWarning
from synth.mixture import Mixture
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

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
REVERSED_WORDINGS: Mapping[str, dict[str, Any]] = {
    "multi5+reverse1": {"wordings": 5, "reverse": 1},
    "multi5+reverse2": {"wordings": 5, "reverse": 2},
    "multi5+reverse6": {"wordings": 5, "reverse": 6},
    "multi5+permute+reverse6": {"wordings": 5, "permute": 1, "reverse": 6},
}
RECIPES = ("finetuned by LoRA", "finetuned in full", "mixed")


@dataclass(frozen=True)
class TrainBudget:
    """Steps, learning rate, warm-up steps and weight decay of one training."""

    steps: int
    lr: float
    warmup: int = 0
    weight_decay: float = 0.01


@dataclass(frozen=True)
class ScaleConfig:
    """One scale: people, model, batches and budgets.

    batch, window: rows and tokens of a row in pretraining; finetuning has half as many rows. list_sizes: lengths of the
    lists of names and values; question_share: share of questions in mixed training; lora_ranks: for queries and values,
    and for the embedding; model_fields: other fields of ModelConfig; packing: of documents into rows.
    """

    people: int
    layers: int
    heads: int
    width: int
    batch: int
    window: int
    pretraining: TrainBudget
    mixed_training: TrainBudget
    full_finetuning: TrainBudget
    lora_finetuning: TrainBudget
    list_sizes: Mapping[str, int] = field(default_factory=dict)
    question_share: float = 0.5
    lora_ranks: tuple[int, int] = (8, 64)
    model_fields: Mapping[str, Any] = field(default_factory=dict)
    packing: Packing = "cut"


Scale = str | ScaleConfig

# Names of one word are what lets a model of 0.2M parameters learn whom it reads about within minutes.
SHORT_LISTS = {"first": 1, "middle": 1, "years": 20, "months": 12, "days": 10, "templates": 2, "questions": 1}
SHORT_LISTS |= {"cities": 60, "universities": 60, "majors": 60, "employers": 60}
SMALL_MODEL = {"max_seq_len": 256, "init_std": 0.1}
PAPER_MODEL = {"max_seq_len": 512, "rotary_fraction": 0.25}
SCALE_CONFIGS = {
    "smoke": ScaleConfig(
        20, 1, 2, 16, 8, 64, TrainBudget(20, 6e-3), TrainBudget(20, 6e-3), TrainBudget(10, 1e-3), TrainBudget(10, 1e-3),
        {**SHORT_LISTS, "last": 20}, lora_ranks=(2, 4), model_fields=SMALL_MODEL,
    ),
    "laptop": ScaleConfig(
        400, 3, 4, 64, 16, 64, TrainBudget(2500, 6e-3, 100), TrainBudget(2500, 6e-3, 100), TrainBudget(1200, 1e-3),
        TrainBudget(1200, 1e-3), {**SHORT_LISTS, "last": 400}, model_fields=SMALL_MODEL,
    ),
    "overnight": ScaleConfig(
        1600, 4, 4, 64, 32, 64, TrainBudget(15_000, 3e-3, 500), TrainBudget(15_000, 3e-3, 500), TrainBudget(2000, 1e-3),
        TrainBudget(2000, 1e-3), {**SHORT_LISTS, "first": 20, "middle": 20, "last": 40, "templates": 5, "questions": 2},
        model_fields=SMALL_MODEL,
    ),
    "gpu": ScaleConfig(
        20_000, 8, 8, 512, 96, 512, TrainBudget(6000, 1e-3, 300, 0.1), TrainBudget(9000, 1e-3, 300, 0.1),
        TrainBudget(3000, 1e-4), TrainBudget(3000, 3e-4), {"questions": 1}, 0.8, (8, 128), PAPER_MODEL,
    ),
    "paper": ScaleConfig(
        100_000, 12, 12, 768, 96, 512, TrainBudget(80_000, 1e-3, 1000, 0.1), TrainBudget(80_000, 1e-3, 1000, 0.1),
        TrainBudget(50_000, 1e-4), TrainBudget(50_000, 3e-4), {"questions": 1}, 0.8, (8, 128), PAPER_MODEL,
    ),
}  # fmt: skip


# Experiment 06: mixed training with the paper's share of questions and a weight decay that acts, and overnight people
# whose names of three words others share, in rows of whole documents.
SHARED_NAMES = {**SHORT_LISTS, "first": 10, "middle": 10, "last": 20}
EXTRACTION_CONFIGS = {
    **SCALE_CONFIGS,
    "laptop": replace(
        SCALE_CONFIGS["laptop"], mixed_training=TrainBudget(5000, 6e-3, 100, 0.3), question_share=0.8
    ),
    "overnight": ScaleConfig(
        1000, 3, 4, 64, 16, 128, TrainBudget(12_000, 6e-3, 100, 0.1), TrainBudget(36_000, 6e-3, 100, 0.3),
        TrainBudget(3000, 1e-3), TrainBudget(3000, 1e-3), SHARED_NAMES, 0.8, model_fields=SMALL_MODEL, packing="whole",
    ),
}  # fmt: skip


def size_of(scale: Scale) -> ScaleConfig:
    """The sizes of a scale: its own, or by name those of SCALE_CONFIGS."""
    return SCALE_CONFIGS[scale] if isinstance(scale, str) else scale


def biography_task(scale: Scale, wording: str, **changes: Any) -> BioS:
    """Biographies of the scale's people in one of WORDINGS or REVERSED_WORDINGS."""
    return BioS(**_task_fields(scale, wording, changes))


def question_task(scale: Scale, wording: str, half: Any = "first", **changes: Any) -> BioQuestions:
    """The six questions about one half of the people; training takes the first half, so that the second is held out."""
    return BioQuestions(half=half, **_task_fields(scale, wording, changes))


def manipulation_task(scale: Scale, wording: str, question: str, **changes: Any) -> BioManipulate:
    """Questions of Part 3.2 about the first half of the people. Biographies and other questions share their vocabulary
    if they have reasoning=True."""
    return BioManipulate(half="first", question=question, **_task_fields(scale, wording, changes))


def _task_fields(scale: Scale, wording: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    size = size_of(scale)
    return {"people": size.people, **size.list_sizes, **{**WORDINGS, **REVERSED_WORDINGS}[wording], **changes}


def make_model_config(scale: Scale, **changes: Any) -> ModelConfig:
    """A rotary GPT-2 of the scale."""
    size = size_of(scale)
    shape = {"n_layers": size.layers, "n_heads": size.heads, "d_model": size.width}
    return ModelConfig(**{**shape, **size.model_fields, **changes})


def mixed_task(scale: Scale, biographies: Any, *question_tasks: Any) -> Mixture:
    """A mixture of biographies and questions with the scale's share of questions, split equally over the kinds of
    questions."""
    share = size_of(scale).question_share
    return Mixture((biographies, *question_tasks), (1 - share, *[share / len(question_tasks)] * len(question_tasks)))


def pretrain_config(scale: Scale, **changes: Any) -> TrainConfig:
    """Training on biographies alone."""
    return _make_train_config(size_of(scale), size_of(scale).pretraining, 1, **changes)


def mixed_train_config(scale: Scale, **changes: Any) -> TrainConfig:
    """Training on biographies and questions together."""
    return _make_train_config(size_of(scale), size_of(scale).mixed_training, 1, **changes)


def finetune_stage(scale: Scale, questions: Any, recipe: str, **changes: Any) -> Stage:
    """A stage of finetuning on questions, in full or by LoRA (RECIPES)."""
    size, adapted = size_of(scale), recipe == "finetuned by LoRA"
    ranks = size.lora_ranks if adapted else (0, 0)
    budget = size.lora_finetuning if adapted else size.full_finetuning
    return Stage(questions, _make_train_config(size, budget, 2, **changes), *ranks)


def _make_train_config(size: ScaleConfig, budget: TrainBudget, batch_divisor: int, **changes: Any) -> TrainConfig:
    """AdamW and a cosine to a tenth of the rate, as in the paper."""
    return TrainConfig(**{
        "steps": budget.steps, "batch_size": size.batch // batch_divisor, "seq_len": size.window, "lr": budget.lr,
        "warmup_steps": budget.warmup, "weight_decay": budget.weight_decay, "schedule": "cosine", "min_lr_ratio": 0.1,
        "eps": 1e-6, "packing": size.packing, **changes,
    })  # fmt: skip
