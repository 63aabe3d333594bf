"""Frozen tokens keep their embeddings, in finetuning of all weights and of adapters; all others learn."""

import pytest
import torch

from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.training.loop import train
from lm.transforms.lora import add_lora, merge_lora
from synth.tasks.bioqa import BioQuestions

TASK = BioQuestions(people=20)
CONFIG = TrainConfig(steps=4, batch_size=4, seq_len=64, lr=1e-2, weight_decay=0.5)
NAMES = sorted({int(token) for part in TASK.lexicon.names for token in part})


@pytest.mark.parametrize("kernels", ["", "0"])
@pytest.mark.parametrize("adapted", [False, True])
def test_names_keep_their_embeddings(adapted: bool, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSICS_OF_LMS_NATIVE", kernels)
    model = build(ModelConfig(2, 2, 16), TASK.vocab().size, 0)
    before = model.embed.weight.detach().clone()
    if adapted:
        model = add_lora(model, 2, 4)
    train(model, TASK, CONFIG, 0, on_step=lambda *_: None, frozen_tokens=NAMES)
    after = (merge_lora(model) if adapted else model).embed.weight.detach()
    others = torch.tensor(sorted(set(range(len(before))) - set(NAMES)))
    torch.testing.assert_close(after[NAMES], before[NAMES], rtol=0, atol=0)
    assert (after[others] != before[others]).any(1).float().mean() > 0.05  # those of its questions


def test_a_checkpoint_knows_what_was_frozen(tmp_path) -> None:
    from synth.errors import UserError

    make = lambda: build(ModelConfig(1, 2, 16), TASK.vocab().size, 0)  # noqa: E731
    train(make(), TASK, CONFIG, 0, folder=tmp_path, on_step=lambda *_: None, frozen_tokens=NAMES)
    with pytest.raises(UserError):
        train(make(), TASK, CONFIG, 0, folder=tmp_path, on_step=lambda *_: None)
