"""Snapshots: a callback evaluates the model at chosen steps of a training and leaves no trace in it."""

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from lm.config import TrainConfig
from lm.model import Decoder
from lm.training.distributed import dist_context, single_process
from lm.training.history import OnSnapshot
from synth.errors import UserError


def check_snapshots(steps: Collection[int], on_snapshot: object, config: TrainConfig) -> frozenset[int]:
    """The steps as a set. Raises UserError for steps that the training does not have, and for steps without a
    callback."""
    if steps and on_snapshot is None:
        raise UserError("snapshot_steps says when and nothing says what to do then; give on_snapshot too")
    outside = sorted(step for step in steps if not 1 <= step <= config.steps)
    if outside:
        problem = f"snapshot_steps has {outside[0]} and the training has steps 1 to {config.steps}"
        raise UserError(f"{problem}; leave it out (for step 0, evaluate the model before training)")
    return frozenset(steps)


def take_snapshot(step: int, model: Decoder, on_snapshot: OnSnapshot) -> bool:
    """What the callback returns: whether the training ends here. Afterwards the modes of the model's modules and the
    global random states are as they were. To the callback this process is the only one, so that it may train models of
    its own (within torch.enable_grad()) while other ranks wait."""
    with single_process(), preserve_rng(), evaluation_mode(model):
        return bool(on_snapshot(step, model))


@contextmanager
def evaluation_mode(model: Decoder) -> Iterator[None]:
    """Context in which the model is in eval mode and no gradients are recorded; then every module has its own mode
    again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        model.zero_grad()  # a callback may have recorded gradients after all


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Context after which the global random states of torch, numpy and Python are those from before it."""
    python, numpy, device = random.getstate(), np.random.get_state(), dist_context().device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
