"""Lengths of queries and keys: planted, and held by their norm."""

import pytest
import torch

from lm.config import ModelConfig
from lm.model import build
from probing.reasoning.qk_norms import QKNorms, qk_statistics
from synth import UserError
from synth.registry import get_task

TASK = get_task("cfg", grammar="cfg3f", root="10")
SHAPE = {"n_layers": 1, "n_heads": 2, "d_model": 16, "max_seq_len": 32, "init_std": 0.1}


def model(**changes):
    config = ModelConfig(**SHAPE, **changes)
    return build(config, config.model_vocab_size(TASK.vocab()), 0)


def test_a_model_as_it_began_has_not_grown() -> None:
    found = QKNorms(documents=4).measure(model(), TASK, 0, 0)
    assert found["growth"] == 1 and found["query"] == found["query_start"] > 0 and found["score"] > 0


@pytest.mark.parametrize("qk_norm", [False, True])
def test_growth_is_what_was_planted_and_the_norm_takes_it_back(qk_norm: bool) -> None:
    grown = model(qk_norm=qk_norm)
    with torch.no_grad():
        for block in grown.blocks:
            block.mixer.qkv.weight[:32] *= 3  # queries and keys
    found = QKNorms(documents=4).measure(grown, TASK, 0, 0)
    assert found["growth"] == pytest.approx(1 if qk_norm else 3, rel=1e-3)
    if qk_norm:
        assert found["query"] == pytest.approx(8**0.5, rel=0.1)  # heads of 8, gain 1
    else:
        assert found["score"] == pytest.approx(9 * found["score_start"], rel=1e-4)


def test_only_queries_and_keys_have_lengths() -> None:
    with pytest.raises(UserError, match="need softmax attention; give"):
        qk_statistics(model(positions="uniform"), [torch.tensor([0, 1, 2])])
