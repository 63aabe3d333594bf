"""Quantization against planted answers, a plain loop, and torchao where it is installed."""

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.model import Decoder, build
from lm.transforms.quantize import gptq, quantize, round_to_nearest
from synth.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_the_grid(bits: int, groups: int = 3, group: int = 8) -> torch.Tensor:
    """Rows of whole multiples of a step of their own, each group with its largest in it."""
    most = 2 ** (bits - 1) - 1
    numbers = torch.randint(-most, most + 1, (5, groups * group), generator=generator())
    numbers[:, ::group] = most
    return numbers * (2.0 ** torch.randint(-6, 0, (5, groups), generator=generator(1))).repeat_interleave(group, 1)


def correlated(n: int, width: int, seed: int = 0) -> torch.Tensor:
    """Inputs of which a few directions hold nearly everything, as hidden states are."""
    mix = torch.randn(width, width, generator=generator(seed)) * (0.8 ** torch.arange(width))[:, None]
    return torch.randn(n, width, generator=generator(seed + 1)) @ mix


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_weight_on_the_grid_is_unchanged(bits: int) -> None:
    weight, x = on_the_grid(bits), correlated(200, 24)
    assert torch.equal(round_to_nearest(weight, bits, 8), weight)
    assert torch.equal(gptq(weight, x.T @ x, bits, 8), weight)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [None, 7, 32])
def test_the_error_is_at_most_half_a_step(bits: int, group: int | None) -> None:
    weight = torch.randn(6, 50, generator=generator())
    error = (round_to_nearest(weight, bits, group) - weight).abs()
    for part, wrong in zip(weight.split(group or 50, 1), error.split(group or 50, 1), strict=True):
        step = part.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert (wrong <= step / 2 * (1 + 1e-5)).all()


def test_a_grid_has_so_many_points() -> None:
    rounded = round_to_nearest(torch.randn(1, 4000, generator=generator()), 4)
    assert len(rounded.unique()) == 15
    assert (round_to_nearest(torch.zeros(2, 5), 4) == 0).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bits", [3, 4])
def test_gptq_keeps_the_output_nearer_than_rounding(bits: int, seed: int) -> None:
    weight, x = torch.randn(16, 64, generator=generator(seed)), correlated(500, 64, 10 * seed)
    wanted = x @ weight.T
    nearest, moved = (
        (x @ rounded.T - wanted).square().sum()
        for rounded in (round_to_nearest(weight, bits, 32), gptq(weight, x.T @ x, bits, 32))
    )
    assert moved < 0.6 * nearest


def test_gptq_without_correlation_is_rounding() -> None:
    weight = torch.randn(6, 20, generator=generator())
    torch.testing.assert_close(gptq(weight, torch.eye(20), 4, 5), round_to_nearest(weight, 4, 5))


def test_gptq_moves_what_is_left_as_least_squares_would() -> None:
    """After the first column is rounded, the best others are those that regression on the inputs gives."""
    weight, x = torch.randn(1, 4, generator=generator()).double(), correlated(300, 4).double()
    moment = x.T @ x
    damped = moment + 0.01 * moment.diagonal().mean() * torch.eye(4)
    first = round_to_nearest(weight, 8)[:, :1]
    left = weight[:, 1:] + (weight[:, :1] - first) @ damped[:1, 1:] @ torch.linalg.inv(damped[1:, 1:])
    step = weight.abs().max() / 127
    second = (left[:, 0] / step).round().clamp(-127, 127) * step
    ours = gptq(weight.float(), moment.float(), 8).double()
    torch.testing.assert_close(ours[:, :2], torch.stack([first[:, 0], second], 1), rtol=1e-4, atol=1e-6)


def test_an_input_that_is_always_zero_is_rounded_to_nearest() -> None:
    weight, x = torch.randn(3, 6, generator=generator()), correlated(50, 6)
    x[:, 2] = 0
    found = gptq(weight, x.T @ x, 4)
    assert torch.equal(found[:, 2], round_to_nearest(weight, 4)[:, 2]) and found.isfinite().all()


def trained_like(config: ModelConfig) -> Decoder:
    model = build(config, 11, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator())
    return model.eval()


DOCUMENTS = [np.random.default_rng(i).integers(0, 11, 4 + i % 3) for i in range(30)]
SWITCHES = [
    {},
    {"tie_embeddings": False, "positions": "learned"},
    {"n_experts": 3, "mlp": "swiglu"},
    {"mlp": "none"},
] + [{"positions": positions} for positions in ("relative", "position_only", "uniform")]


@pytest.mark.parametrize("method", ["rtn", "gptq"])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_architecture_in_eight_and_in_four_bits(switches: dict, method: str) -> None:
    model = trained_like(ModelConfig(2, 2, 16, max_seq_len=16, **switches))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = torch.from_numpy(np.stack([d[:4] for d in DOCUMENTS]))
    with torch.no_grad():
        wanted = model(inputs).log_softmax(-1)
        eight, four = (
            (quantize(model, bits, 8, method, DOCUMENTS)(inputs).log_softmax(-1) - wanted).abs().mean()
            for bits in (8, 4)
        )
    assert 0 < eight < 0.03 and 2 * eight < four
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), "the model changed"


def test_what_is_rounded_and_what_stays() -> None:
    model = trained_like(ModelConfig(1, 2, 16, max_seq_len=16, tie_embeddings=False, positions="learned"))
    found, kept = quantize(model, 4, None), quantize(model, 4, None, tables=False)
    for name, weight in model.named_parameters():
        rounded = dict(found.named_parameters())[name]
        assert torch.equal(rounded, weight if weight.ndim == 1 else round_to_nearest(weight, 4)), name
    for name in ("embed", "positions", "head"):
        assert torch.equal(getattr(kept, name).weight, getattr(model, name).weight)
    assert torch.equal(kept.blocks[0].mixer.qkv.weight, found.blocks[0].mixer.qkv.weight)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"bits": 1}, "2 to 8"), ({"bits": 9}, "2 to 8"), ({"group": 0}, "group"), ({"method": "gptq"}, "calibration")],
)
def test_bad_settings(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        quantize(build(ModelConfig(1, 1, 8), 5, 0), **settings)


@pytest.mark.parametrize("bits", [4, 8])
def test_torchao_rounds_alike(bits: int) -> None:
    torchao = pytest.importorskip("torchao.quantization.quant_primitives", reason="the extra [quant] is not installed")
    weight, most = torch.randn(8, 64, generator=generator()), 2 ** (bits - 1) - 1
    settings = ((1, 16), torch.int8, -most, most)
    scale, zero = torchao.choose_qparams_affine(
        weight, torchao.MappingType.SYMMETRIC, settings[0], torch.int8, -most, most, eps=1e-12
    )
    codes = torchao.quantize_affine(weight, settings[0], scale, zero, *settings[1:])
    theirs = torchao.dequantize_affine(codes, settings[0], scale, zero, *settings[1:])
    torch.testing.assert_close(round_to_nearest(weight, bits, 16), theirs, rtol=1e-5, atol=1e-6)
