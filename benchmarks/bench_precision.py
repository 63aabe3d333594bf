"""Training losses with operands of matrix products rounded to bf16 (precision="bf16-matmul"), against fp32.

The first trainings of experiments 01, 06, 10 and 15 at laptop scale, and a deeper and wider model for written
solutions, cut to a few hundred steps: the same seeds, data and rates, so that each seed makes a pair. The value is the
loss (nats per token) over the last fifth of the steps, mean over the seeds; low and high are the extreme ratios of
pairs. The rounding is harmless where these lie as near to 1 as the losses of two seeds lie to each other, which the
last row of each model shows: the second seed against the first, in fp32.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from statistics import mean

from benchmarks.peers import threads
from benchmarks.timing import Row
from experiments.harness.experiment import select
from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.native.objective import fuse_objective
from lm.training.loop import train
from synth.registry import get_task
from synth.task import TrainingData

EXPERIMENTS = ("01", "06", "10", "15")
STEPS, QUICK_STEPS, SEEDS = 400, 5, 3
Case = tuple[str, TrainingData, ModelConfig, TrainConfig]


def cases(quick: bool) -> Iterator[Case]:
    """Name, task, model and training of each kind of model."""
    for number in EXPERIMENTS:
        runs = select([number])[0].load_module().runs("smoke" if quick else "laptop")
        run = next(run for run in runs if run.train is not None and fuse_objective(_model(run.model, run.task, 0)))
        yield f"experiment {number}", run.task, run.model, run.train
    task = get_task("mano")
    yield "6 x 128", task, ModelConfig(6, 4, 128), TrainConfig(steps=STEPS, batch_size=16, seq_len=128, lr=2e-3)


def _model(config: ModelConfig, task: TrainingData, seed: int):  # type: ignore[no-untyped-def]
    return build(config, config.model_vocab_size(task.vocab()), seed)


def run(quick: bool) -> Iterator[Row]:
    """Losses of both precisions, and of two seeds, for each kind of model."""
    with threads(1):
        for name, task, config, training in cases(quick):
            if fuse_objective(_model(config, task, 0)) is None:
                print("precision: no compiled kernels here, which round the operands", file=sys.stderr)
                return
            training = replace(training, steps=QUICK_STEPS if quick else STEPS)
            exact, rounded = (
                [_loss(task, config, replace(training, precision=precision), seed) for seed in range(SEEDS)]
                for precision in ("fp32", "bf16-matmul")
            )
            yield _row(name, rounded, "fp32", exact)
            yield _row(f"{name}, fp32", exact[1:], "first seed", [exact[0]] * (SEEDS - 1))


def _loss(task: TrainingData, config: ModelConfig, training: TrainConfig, seed: int) -> float:
    history = train(_model(config, task, seed), task, training, seed, seed, log_every=1, on_step=lambda *_: None)
    return mean(row["loss"] for row in history[-max(1, len(history) // 5) :])


def _row(case: str, losses: list[float], peer: str, others: list[float]) -> Row:
    ratios = [a / b for a, b in zip(losses, others, strict=True)]
    value, other = mean(losses), mean(others)
    return Row(case, value, "nats", peer, other, value / other, min(ratios), max(ratios), threads=1)
