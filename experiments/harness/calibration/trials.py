"""The trainings that show how hard a size of a task is: which model, for how many steps, at which rates.

Settings follow Part 4.1 (arXiv 2512.17351, appendix A): LLaMA shapes, AdamW with betas 0.9 and 0.98, weight decay 0.03,
a warm-up and a cosine down to a tenth. Steps come from a budget of core-seconds, not from the paper.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.atomic_io import locked, read_json, write_json
from experiments.harness.evaluation.task_metrics import Measure, hardest
from experiments.harness.run import Run, Seeds
from synth.corpus import Corpus
from synth.errors import UserError
from synth.identity import digest
from synth.task import Task

if TYPE_CHECKING:
    from lm import ModelConfig, TrainConfig

SEED = 99  # of worlds, weights and documents: no experiment reports it
REFERENCE = "reference"
LEAST_STEPS = 20
LOOKED_AT = 512  # documents whose lengths say how long a window must be
MARGIN = 1.1  # what longer documents than those may come


@dataclass(frozen=True)
class Defaults:
    """What a scale stands for; seconds: of one core, or of the GPU, for one training."""

    layers: int
    heads: int
    width: int
    batch: int
    seconds: float
    rates: tuple[float, ...]


DEFAULTS = {
    "smoke": Defaults(1, 2, 16, 8, 2.0, (4e-3,)),
    "laptop": Defaults(2, 4, 64, 32, 60.0, (1e-3, 2e-3, 4e-3)),
    "overnight": Defaults(4, 4, 128, 64, 900.0, (5e-4, 1e-3, 2e-3)),
    "gpu": Defaults(8, 8, 512, 128, 300.0, (3e-4, 1e-3, 2e-3)),
}


@dataclass(frozen=True)
class Trial:
    """One training of one architecture at one rate."""

    architecture: str
    run: Run

    @property
    def lr(self) -> float:
        assert self.run.train is not None
        return self.run.train.lr


@dataclass(frozen=True)
class Bench:
    """What all sizes share.

    model, train: fields in place of the scale's; architectures: name and changes of the reference for each model beside
    it; root: where runs, and the times of steps, are kept.
    """

    defaults: Defaults
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    architectures: Mapping[str, Mapping[str, Any]]
    rates: tuple[float, ...]
    seconds: float
    root: Path

    def shape(self, task: Task) -> "tuple[ModelConfig, TrainConfig]":
        """Model and training (of one step) for a size of the task. Raises UserError when its documents do not fit."""
        from lm.config import ModelConfig, TrainConfig

        longest, prompts = _lengths(task)
        room = -(-int(longest * MARGIN) // 8) * 8
        given: dict[str, Any] = {
            "layers": self.defaults.layers,
            "heads": self.defaults.heads,
            "width": self.defaults.width,
        }
        given |= {"context": max(room, self.train.get("window", 0)), **self.model}
        model = ModelConfig.llama(**{"init_std": round(given["width"] ** -0.5, 3), **given})
        settings: dict[str, Any] = {
            "batch": self.defaults.batch,
            "window": model.context,
            "packing": "whole" if prompts else "cut",
        }
        settings |= {"eps": 1e-6, "weight_decay": 0.03, "schedule": "cosine", "final_lr": 0.1, **self.train}
        train = TrainConfig(steps=1, lr=min(self.rates), **settings)
        for name, has in (("context", model.context), ("window", train.window)):
            if has < longest - 1:
                option = "--model" if name == "context" else "--train"
                raise UserError(
                    f"documents of {longest} tokens do not fit {name}={has}; "
                    f"give {option} {name}={room}, or easier sizes"
                )
        return model, train

    def trials(self, task: Task, measure: Measure) -> list[Trial]:
        """Every architecture at every rate, the reference first. Raises UserError when the budget is too small."""
        model, train = self.shape(task)
        steps = self.steps(task)
        train = replace(train, steps=steps, warmup=self.train.get("warmup", steps // 20))
        models = {REFERENCE: model, **{name: replace(model, **has) for name, has in self.architectures.items()}}
        return [
            Trial(
                name, Run("calibrate", task, each, replace(train, lr=lr), (measure.evaluation,), Seeds.numbered(SEED))
            )
            for name, each in models.items()
            for lr in self.rates
        ]

    def steps(self, task: Task) -> int:
        """The steps of the reference that the budget allows, two digits of them. Raises UserError below 20."""
        each = self.time_of_a_step(task)
        steps = int(self.seconds / each)
        if steps < LEAST_STEPS:
            raise UserError(
                f"a step takes {each:.2g} s, so that {self.seconds:g} s are {steps} steps; "
                f"give --seconds {int(each * LEAST_STEPS) + 1} or more, or a smaller --model or --train batch"
            )
        unit = 10 ** (len(str(steps)) - 2)
        return steps // unit * unit

    def time_of_a_step(self, task: Task) -> float:
        """Core-seconds of a training step of the reference, measured once on a machine: were it measured again, other
        steps would come of it, and everything would be trained again."""
        import torch

        from experiments.harness.planning.cost import time_of_a_step
        from experiments.harness.provenance import device_name
        from experiments.harness.run import Stage
        from lm.config import VERSION

        model, train = self.shape(task)
        train = replace(train, lr=1e-6)  # whatever the rate, a step takes as long
        key = digest([task.key, model, train, VERSION, device_name()], size=6)
        path = self.root / ".speed" / key / "step.json"
        with locked(self.root / ".locks" / f"speed-{key}", wait=True):
            if not path.exists():
                run = Run("calibrate", task, model, train, (), Seeds.numbered(SEED))
                # on a CPU what other processes take is not this one's; on a GPU this process mostly waits
                clock = time.perf_counter if torch.cuda.is_available() else time.process_time
                write_json(path, {"seconds": time_of_a_step(run, Stage(task, train), clock=clock)})
            return read_json(path)["seconds"]


def _lengths(task: Task) -> tuple[int, bool]:
    """The longest of some documents, in tokens, and whether they have prompts. Those that evaluations read, at the
    hardest, are among them."""
    blocks = [
        Corpus(each, SEED, split).documents(0, LOOKED_AT) for each, split in ((task, "train"), (hardest(task), "test"))
    ]
    return max(int(block.lengths.max()) for block in blocks), any(block.prompt_lengths.max() > 1 for block in blocks)


def architectures(cls: type, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name and changes of the reference of every "name=switch:value,switch:value". Raises UserError."""
    from experiments.harness.calibration.config_text import assignments, values_of

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, switches = text.partition("=")
        if not equals or not name or not switches or name in (REFERENCE, *found):
            raise UserError(f"--arch {text}: give a new name and what it switches, as in nope=positions:none")
        parts = [part.replace(":", "=", 1) for part in switches.split(",")]
        found[name] = values_of(cls, assignments([",".join(parts)], "--arch"), f"--arch {name}:")
    return found
