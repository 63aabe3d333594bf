"""A coin and a model of a few hundred weights: an experiment small enough to test the harness with.

Copied into a test's own folder as an experiment. FAKE_LOG names a file that gets a line for every evaluation; while the
file that FAKE_HANG names exists, an evaluation waits.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from experiments.harness import ClaimList, Run, main, with_seeds
from experiments.harness.reporting import figures
from experiments.harness.reporting.rows import mean_by_seed
from lm import ModelConfig, TrainConfig
from synth import Example, Task, Vocab


@dataclass(frozen=True)
class Coin(Task):
    """Documents of four throws that show 1 with probability `ones`."""

    ones: float = 0.5

    name: ClassVar[str] = "coin"
    source: ClassVar[str] = "none"

    def vocab(self) -> Vocab:
        return Vocab(("0", "1"))

    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        tokens = np.array([0, *(1 + (rng.random(4) < self.ones)), 3], np.int32)
        return Example(tokens, np.arange(6) > 0)

    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        return {"ones": float(np.mean(completion == 2))}

    def floors(self, world: Any) -> dict[str, float]:
        return {"ones": self.ones}

    def information_content(self, world: Any = None) -> Any:
        return SimpleNamespace(bits=1000.0)


@dataclass(frozen=True)
class Score:
    """A number that depends on the task and the seed alone."""

    draws: int = 10

    def measure(self, model: Any, task: Coin, data_seed: int, seed: int) -> list[dict[str, Any]]:
        while os.path.exists(os.environ.get("FAKE_HANG", "/nowhere")):
            time.sleep(0.02)
        if "FAKE_LOG" in os.environ:
            with open(os.environ["FAKE_LOG"], "a") as log:
                log.write(f"{task.ones} {seed}\n")
        return [{"part": part, "score": np.float64(task.ones * 100 + seed + part)} for part in (0, 1)]


STEPS = {"smoke": 20, "laptop": 60, "gpu": 100, "paper": 100_000}


def runs(scale: str) -> list[Run]:
    if scale not in STEPS:
        return []
    width = 768 if scale == "paper" else 8
    model = ModelConfig(n_layers=1, n_heads=2, d_model=width, max_seq_len=16)
    steps = int(os.environ.get("FAKE_STEPS", STEPS[scale]))
    train = TrainConfig(steps=steps, batch_size=2, seq_len=16)
    configurations = [
        Run(Path(__file__).stem, Coin(ones), model, train, (Score(),), tags={"coin": f"ones {ones}"})
        for ones in (0.5, 0.9)
    ]
    return with_seeds(configurations, seeds=1 if scale == "smoke" else 3)


def figure(table):
    drawing, (axes,) = figures.subplots()
    figures.plot_means_with_ci(axes, table, x="coin", y="score", hue="part")
    figures.plot_paper_line(axes, 80.0)
    return drawing


def claims(table):
    made = ClaimList(table)
    score = mean_by_seed(table, "score", coin="ones 0.9")
    made.add("1.1", "score of the coin", score, 99.8, "> 80", above=80, primary=True)
    return made


if __name__ == "__main__":
    main(__file__)
