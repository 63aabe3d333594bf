"""The learning rate of every step: warm-up, then a linear, cosine or constant schedule."""

import math

from lm.config import TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Learning rate of step 0, 1, ...: linear warm-up for warmup_steps, then the schedule down to min_lr_ratio * lr."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    share = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[config.schedule]
    floor = 1.0 if config.schedule == "constant" else config.min_lr_ratio
    return config.lr * (floor + (1 - floor) * share)
