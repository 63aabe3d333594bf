"""Spikes of planted logs, and the pace of a step."""

import torch

from experiments.harness.evaluation.loss_spikes import LossSpikes
from experiments.harness.evaluation.step_time import StepTime
from lm.config import ModelConfig
from lm.model import build


def log(losses: list[float]) -> list[dict]:
    return [{"step": 10 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]


def test_a_spike_is_an_excursion_above_the_lowest_so_far() -> None:
    found = LossSpikes().measure_history(log([4.0, 3.0, 3.3, 2.0, 2.5, 3.0, 1.9, 2.0, 2.9, 1.0]))
    assert found["spikes"] == 2 and found["rise"] == 1.0
    assert LossSpikes().measure_history(log([4.0, 3.0, 2.0, 2.1]))["spikes"] == 0


def test_it_asks_the_model_nothing() -> None:
    assert LossSpikes().measure() == {}


def test_the_pace_leaves_the_model_as_it_was() -> None:
    model = build(ModelConfig(1, 2, 16, 32), 8, 0)
    before = [parameter.clone() for parameter in model.parameters()]
    assert StepTime(batch_size=2, seq_len=16).measure(model, None, 0, 0)["seconds_a_step"] > 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))
    assert not model.training
