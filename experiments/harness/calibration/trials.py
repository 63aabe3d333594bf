"""The trainings of a calibration: which models, for how many steps, at which learning rates.

Settings follow Part 4.1 (arXiv 2512.17351, appendix A): LLaMA shapes, AdamW with betas 0.9 and 0.98, weight decay 0.03,
a warm-up and a cosine down to a tenth. Steps come from a budget of core-seconds, not from the paper.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.harness.atomic_io import exclusive_lock, read_json, write_json
from experiments.harness.calibration.config_text import parse_assignments, parse_values
from experiments.harness.evaluation.task_metrics import TaskMetric, at_hardest_size
from experiments.harness.planning import cost
from experiments.harness.provenance import device_name
from experiments.harness.run import Run, Seeds, Stage
from lm.config import VERSION, ModelConfig, TrainConfig
from synth.corpus import Corpus
from synth.errors import UserError
from synth.identity import digest
from synth.task import Task

CALIBRATION_SEED = 99  # of worlds, weights and documents: no experiment reports it
REFERENCE = "reference"
MIN_STEPS = 20
NUM_MEASURED_DOCUMENTS = 512  # documents whose lengths say how long a window must be
LENGTH_MARGIN = 1.1  # what longer documents than those may come


@dataclass(frozen=True)
class ScaleDefaults:
    """The reference model of a scale and the budget of one training (seconds of one core, or of the GPU)."""

    layers: int
    heads: int
    width: int
    batch: int
    seconds: float
    learning_rates: tuple[float, ...]


SCALE_DEFAULTS = {
    "smoke": ScaleDefaults(1, 2, 16, 8, 2.0, (4e-3,)),
    "laptop": ScaleDefaults(2, 4, 64, 32, 60.0, (1e-3, 2e-3, 4e-3)),
    "overnight": ScaleDefaults(4, 4, 128, 64, 900.0, (5e-4, 1e-3, 2e-3)),
    "gpu": ScaleDefaults(8, 8, 512, 128, 300.0, (3e-4, 1e-3, 2e-3)),
}


@dataclass(frozen=True)
class Trial:
    """One training of one architecture at one learning rate."""

    architecture: str
    run: Run

    @property
    def lr(self) -> float:
        assert self.run.train is not None
        return self.run.train.lr


@dataclass(frozen=True)
class TrialFactory:
    """Makes the trials of any size of a task.

    model, train: fields that replace the scale's; architectures: changes of the reference by name; runs_dir: folder of
    runs and of measured step times.
    """

    defaults: ScaleDefaults
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    architectures: Mapping[str, Mapping[str, Any]]
    learning_rates: tuple[float, ...]
    budget_seconds: float
    runs_dir: Path

    def configs(self, task: Task) -> tuple[ModelConfig, TrainConfig]:
        """Model and training (of one step) for a size of the task. Raises UserError if its documents do not fit."""
        longest, prompts = _document_lengths(task)
        room = -(-int(longest * LENGTH_MARGIN) // 8) * 8
        scale, seq_len = self.defaults, self.train.get("seq_len", 0)
        given: dict[str, Any] = {"n_layers": scale.layers, "n_heads": scale.heads, "d_model": scale.width}
        given |= {"max_seq_len": max(room, seq_len), **self.model}
        model = ModelConfig.llama(**{"init_std": round(given["d_model"] ** -0.5, 3), **given})
        packing = "whole" if prompts else "cut"
        settings: dict[str, Any] = {"batch_size": scale.batch, "seq_len": model.max_seq_len, "packing": packing}
        settings |= {"eps": 1e-6, "weight_decay": 0.03, "schedule": "cosine", "min_lr_ratio": 0.1, **self.train}
        train = TrainConfig(steps=1, lr=min(self.learning_rates), **settings)
        for name, has in (("max_seq_len", model.max_seq_len), ("seq_len", train.seq_len)):
            if has < longest - 1:
                option = "--model" if name == "max_seq_len" else "--train"
                raise UserError(
                    f"documents of {longest} tokens do not fit {name}={has}; "
                    f"give {option} {name}={room}, or easier sizes"
                )
        return model, train

    def trials(self, task: Task, measure: TaskMetric) -> list[Trial]:
        """Every architecture at every rate, the reference first. Raises UserError if the budget is too small."""
        model, train = self.configs(task)
        steps = self.steps_in_budget(task)
        train = replace(train, steps=steps, warmup_steps=self.train.get("warmup_steps", steps // 20))
        models = {REFERENCE: model, **{name: replace(model, **has) for name, has in self.architectures.items()}}
        seeds = Seeds.all_equal(CALIBRATION_SEED)
        return [
            Trial(name, Run("calibrate", task, each, replace(train, lr=lr), (measure.evaluation,), seeds))
            for name, each in models.items()
            for lr in self.learning_rates
        ]

    def steps_in_budget(self, task: Task) -> int:
        """The steps of the reference that the budget allows, rounded down to two digits. Raises UserError below 20."""
        each = self.step_seconds(task)
        steps = int(self.budget_seconds / each)
        if steps < MIN_STEPS:
            raise UserError(
                f"a step takes {each:.2g} s, so that {self.budget_seconds:g} s are {steps} steps; "
                f"give --seconds {int(each * MIN_STEPS) + 1} or more, or a smaller --model or --train batch_size"
            )
        unit = 10 ** (len(str(steps)) - 2)
        return steps // unit * unit

    def step_seconds(self, task: Task) -> float:
        """Core-seconds of a training step of the reference.

        Measured once on a machine and then read from runs_dir: a second measurement would give other steps, and
        everything would be trained again.
        """
        import torch

        model, train = self.configs(task)
        train = replace(train, lr=1e-6)  # whatever the rate, a step takes as long
        key = digest([task.key, model, train, VERSION, device_name()], size=6)
        path = self.runs_dir / ".speed" / key / "step.json"
        with exclusive_lock(self.runs_dir / ".locks" / f"speed-{key}", wait=True):
            if not path.exists():
                run = Run("calibrate", task, model, train, (), Seeds.all_equal(CALIBRATION_SEED))
                # on a CPU what other processes take is not this one's; on a GPU this process mostly waits
                clock = time.perf_counter if torch.cuda.is_available() else time.process_time
                write_json(path, {"seconds": cost.time_training_step(run, Stage(task, train), clock=clock)})
            return read_json(path)["seconds"]


def _document_lengths(task: Task) -> tuple[int, bool]:
    """The longest of some documents, in tokens, and whether they have prompts. The hardest test documents are among
    them."""
    blocks = [
        Corpus(each, CALIBRATION_SEED, split).documents(0, NUM_MEASURED_DOCUMENTS)
        for each, split in ((task, "train"), (at_hardest_size(task), "test"))
    ]
    return max(int(block.lengths.max()) for block in blocks), any(block.prompt_lengths.max() > 1 for block in blocks)


def parse_architectures(cls: type, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Changes of the reference by name, from texts "name=switch:value,switch:value". Raises UserError."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, switches = text.partition("=")
        if not equals or not name or not switches or name in (REFERENCE, *found):
            raise UserError(f"--arch {text}: give a new name and what it switches, as in nope=positions:none")
        parts = [part.replace(":", "=", 1) for part in switches.split(",")]
        found[name] = parse_values(cls, parse_assignments([",".join(parts)], "--arch"), f"--arch {name}:")
    return found
