"""An architecture of one's own, of which nothing is replaced by noise; and what half precision does to all of them."""

from pathlib import Path

import pytest
import torch

from lm.config import ModelConfig
from lm.model import Decoder, build
from synth.errors import UserError

SOURCE = """
import torch
from torch import nn
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer

class Own(Mixer):
    def __init__(self, config):
        super().__init__()
        self.ln = nn.LayerNorm(config.d_model)
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model))
        {more}

    def forward(self, x, context):
        return self.out(self.ln(x))
"""
FILLED = """self.register_buffer("slopes", torch.ones(3))

    def init_parameter(self, name, parameter, generator):
        if name == "slopes":
            parameter.copy_(torch.arange(3.0))
        return name == "slopes"
"""


def own(folder: Path, more: str = "") -> Decoder:
    path = folder / "own.py"
    path.write_text(SOURCE.format(more=more))
    return build(ModelConfig(1, 2, 16, positions="none", mixer=f"{path}:Own"), 6, 0)


def test_a_norm_of_any_name_begins_as_a_norm(tmp_path: Path) -> None:
    norm = own(tmp_path).blocks[0].mixer.ln
    assert (norm.weight == 1).all() and (norm.bias == 0).all()


@pytest.mark.parametrize("name", ["out", "write_back"])
def test_a_marked_output_layer_of_any_name_begins_smaller(name: str, tmp_path: Path) -> None:
    source = SOURCE.format(more="").replace("self.out", f"self.{name}")
    path = tmp_path / "marked.py"
    path.write_text(source)
    model = build(ModelConfig(8, 2, 64, positions="none", mixer=f"{path}:Own"), 6, 0)
    assert float(getattr(model.blocks[0].mixer, name).weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.05)


def test_a_mixer_without_a_marked_output_layer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unmarked.py"
    path.write_text(SOURCE.format(more="").replace("= residual_writer", "= "))
    with pytest.raises(UserError, match="Own does not mark its output layer.*residual_writer"):
        build(ModelConfig(1, 2, 16, positions="none", mixer=f"{path}:Own"), 6, 0)


@pytest.mark.parametrize("value", ["torch.ones(3)", "torch.arange(3)"])
def test_a_buffer_that_nothing_fills_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"buffer blocks\.0\.mixer\.slopes.*`init_parameter`"):
        own(tmp_path, f'self.register_buffer("slopes", {value})')


def test_a_buffer_that_the_mixer_fills_is_kept(tmp_path: Path) -> None:
    assert own(tmp_path, FILLED).blocks[0].mixer.slopes.tolist() == [0, 1, 2]


def test_canon_leaves_a_half_precision_stream_as_it_is() -> None:
    for block in build(ModelConfig(1, 2, 16, canon="ABCD", mlp="swiglu"), 6, 0).blocks:
        for canon in (block.canon_a, block.mixer.canon_b, block.canon_c, block.canon_d):
            x = torch.randn(2, 9, len(canon.weight))
            context = build(ModelConfig(1, 2, 16), 6, 0).make_context(9)
            with torch.autocast("cpu", torch.bfloat16):
                half = canon(x.bfloat16(), context)
            assert half.dtype == torch.bfloat16
            torch.testing.assert_close(half.float(), canon(x.bfloat16().float(), context), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("changes", [{"qk_norm": True}, {"mixer": "gla"}, {"mixer": "gdn"}, {"mixer": "mamba2"}])
def test_under_autocast_norms_stay_fused_and_logits_near(changes: dict) -> None:
    """torch warns, and does without its fused norm, when the gain has another precision than the input."""
    model = build(ModelConfig(2, 2, 16, canon="ABCD", norm="rms", **changes), 6, 0)
    tokens = torch.arange(24).view(2, 12) % 6
    with torch.autocast("cpu", torch.bfloat16):
        half = model(tokens).float()
    assert (half - model(tokens)).norm() < 0.03 * model(tokens).norm()
