"""What training on a GPU rests on, as far as a CPU shows it: checkpointed activations, and one compilation a shape."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.training.loop import train
from lm.training.step import Objective
from synth.registry import get_task

TASK = get_task("mano")
VOCAB = TASK.vocab().size
CONFIG = TrainConfig(steps=3, batch_size=4, seq_len=32)
MODELS = {
    "LLaMA with Canon": ModelConfig.llama(2, 2, 16, canon="ABCD"),
    "experts": ModelConfig(2, 2, 16, n_experts=2),
    "gated delta net": ModelConfig(2, 2, 16, mixer="gdn"),
}


def kept_bytes(model: Decoder, inputs: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights aside."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Objective(model)(inputs, inputs, None)
    return sum(kept.values())


@pytest.mark.parametrize("name", MODELS)
def test_checkpointed_activations_change_no_gradient_and_take_less(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSICS_OF_LMS_NATIVE", "0")
    model, inputs = build(MODELS[name], VOCAB, 0).train(), torch.randint(VOCAB, (4, 32))
    gradients, kept = [], []
    for model.checkpoint_activations in (False, True):
        model.zero_grad()
        Objective(model)(inputs, inputs, None).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        kept.append(kept_bytes(model, inputs))
    torch.testing.assert_close(gradients[1], gradients[0])
    assert kept[1] < 0.6 * kept[0]


def test_training_asks_for_it_and_losses_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSICS_OF_LMS_NATIVE", "0")
    losses = []
    for asked in (False, True):
        model = build(MODELS["LLaMA with Canon"], VOCAB, 0)
        config = replace(CONFIG, checkpoint_activations=asked)
        losses.append([row["loss"] for row in train(model, TASK, config, 0, log_every=1, on_step=lambda *_: None)])
        assert model.checkpoint_activations == asked
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


COUNT_COMPILATIONS = """
import torch
from torch._dynamo.testing import CompileCounter
from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.training.loop import train
from synth.registry import get_task

counter, task = CompileCounter(), get_task("mano")
torch.compile = lambda net, compiler=torch.compile, **_: compiler(net, backend=counter, dynamic=False)
config = TrainConfig(steps=3, batch_size=4, seq_len=32, compile=True)
for number, width in enumerate((16, 16, 16, 32)):
    train(build(ModelConfig(2, 2, width), task.vocab().size, number), task, config, 0, on_step=lambda *_: None)
    print(counter.frame_count)
"""


def test_models_of_one_shape_are_compiled_once() -> None:
    """In a process of its own: the type checks of these tests cannot be compiled."""
    environment = {**os.environ, "PHYSICS_OF_LMS_NATIVE": "0"}
    command = [sys.executable, "-c", COUNT_COMPILATIONS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    counts = [int(word) for word in done.stdout.split()]
    assert counts[0] >= 1 and counts[:3] == [counts[0]] * 3 and counts[3] > counts[2]
