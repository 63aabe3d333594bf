"""Canon layers against Conv1d and the written formula, and the rooms that have to know of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lm.causality import find_causality_violation, require_causality
from lm.config import ModelConfig, TrainConfig
from lm.layers.canon import Canon, convolve
from lm.layers.context import SequenceContext
from lm.model import build
from lm.model_size import count_parameters, flops_per_token
from lm.ops.cpu_conv1d import convolve as in_one_pass
from lm.pretrained import load, save
from lm.training.loop import make_optimizer, train
from synth.errors import UserError
from synth.identity import digest
from synth.registry import get_task
from tests.contracts.test_model_contract import V, example, lively

T, C = 11, 6
LEAKING = """
from torch import nn
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer

class Leak(Mixer):
    def __init__(self, config):
        super().__init__()
        self.out = residual_writer(nn.Linear(config.d_model, config.d_model))

    def forward(self, x, context):
        return self.out(x + x.roll(-3, 1) * (context.index[:, None] == 2))
"""
BLURRING = """
from lm.layers.residual import residual_writer
from lm.mixers.base import Mixer

class Blur(Mixer):
    supports_bidirectional = True

    def __init__(self, config):
        super().__init__()
        self.causal = config.causal
        residual_writer(self)

    def forward(self, x, context):
        return x.cumsum(1) if self.causal else x + x.mean(1, keepdim=True)
"""


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows(length: int, cut: int | None = None) -> SequenceContext:
    steps = torch.arange(length)
    if cut is None:
        return SequenceContext(steps)
    documents = steps >= cut
    allowed = (documents[:, None] == documents) & (steps[:, None] >= steps)
    return SequenceContext(torch.where(documents, steps - cut, steps).expand(2, -1), allowed.expand(2, 1, -1, -1))


def layer(kernel: int = 4, **switches: bool) -> Canon:
    canon = Canon(C, kernel, **switches)
    with torch.no_grad():
        canon.weight.copy_(drawn(C, kernel, seed=kernel))
    return canon


@pytest.mark.parametrize("length", [1, 2, T])
@pytest.mark.parametrize("kernel", [2, 3, 4, 6])
def test_it_is_a_depthwise_conv1d_that_looks_back(kernel: int, length: int) -> None:
    conv = torch.nn.Conv1d(C, C, kernel, groups=C, padding=kernel - 1, bias=False)
    canon = layer(kernel, residual=False)
    with torch.no_grad():
        conv.weight.copy_(canon.weight[:, None])
    ours, theirs = (drawn(2, length, C).requires_grad_() for _ in range(2))
    got, wanted = canon(ours, rows(length)), conv(theirs.transpose(1, 2))[..., :length].transpose(1, 2)
    torch.testing.assert_close(got, wanted)
    for out in (got, wanted):
        (out * drawn(2, length, C, seed=3)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(canon.weight.grad, conv.weight.grad[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("activation", [True, False])
def test_it_is_the_written_formula_and_begins_anew_at_a_document(residual: bool, activation: bool) -> None:
    canon, h, cut = layer(residual=residual, activation=activation), drawn(2, T, C), 5
    got = canon(h, rows(T, cut))
    for t in range(T):
        begin = cut if t >= cut else 0
        c = sum(canon.weight[:, 3 - j] * h[:, t - j] for j in range(4) if t - j >= begin)
        c = F.silu(c) if activation else c
        torch.testing.assert_close(got[:, t], h[:, t] + c if residual else c)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cut", [None, 1, 2, 5, 9])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
def test_the_pass_over_memory_is_the_plain_form(kernel: int, cut: int | None, threads: int) -> None:
    index = rows(T, cut).index
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = []
        for form, given in ((in_one_pass, index), (convolve, index)):
            x, weight = drawn(2, T, C).requires_grad_(), drawn(C, kernel).requires_grad_()
            y = form(x, weight, given, 1.0)
            found.append((y, *torch.autograd.grad((y * drawn(2, T, C, seed=1)).sum(), (x, weight))))
    finally:
        torch.set_num_threads(before)
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_nan_is_not_hidden() -> None:
    x = drawn(1, T, C)
    x[0, 4, 2] = torch.nan
    hit = layer()(x, rows(T)).isnan()
    assert hit.nonzero().tolist() == [[0, t, 2] for t in range(4, 8)]


def test_taps_begin_uniform_whatever_init_std_is_and_differ_by_seed_and_layer() -> None:
    config = ModelConfig(2, 2, 64, canon="ABCD", init_std=1e-6)
    one, other = (build(config, V, seed) for seed in (0, 1))
    for name, parameter in one.named_parameters():
        if "canon" in name:
            assert 0.45 < parameter.abs().max() <= 0.5
            assert parameter.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.1)
            assert not torch.equal(parameter, dict(other.named_parameters())[name])
    assert not torch.equal(one.blocks[0].canon_a.weight, one.blocks[1].canon_a.weight)


def test_taps_are_counted() -> None:
    plain, whole = (ModelConfig.llama(2, 2, 48, canon=canon) for canon in ("", "ABCD"))
    counts = [count_parameters(build(config, V, 0)) for config in (plain, whole)]
    extra = 2 * 4 * (48 + 3 * 48 + 48 + 2 * 8 * 48 // 3)  # 41.33 D a layer, as the paper has it
    assert counts[1]["non_embedding"] - counts[0]["non_embedding"] == extra
    assert flops_per_token(whole, V, 32) - flops_per_token(plain, V, 32) == 6 * extra


def test_constant_taps_are_never_trained(tmp_path: Path) -> None:
    model = build(ModelConfig(1, 2, 16, canon="ABCD", canon_learnable=False), 6, 0)
    taps = {name: tensor.clone() for name, tensor in model.state_dict().items() if "canon" in name}
    trained = {id(p) for group in make_optimizer(model, TrainConfig(steps=1)).param_groups for p in group["params"]}
    assert len(taps) == 4 and trained == {id(p) for p in model.parameters()}
    settings = TrainConfig(steps=3, batch_size=2, seq_len=32)
    train(model, get_task("cfg3b"), settings, 0, folder=tmp_path / "run", on_step=lambda *_: None)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    resumed = build(model.config, 6, 0)
    train(resumed, get_task("cfg3b"), settings, 0, folder=tmp_path / "run", on_step=lambda *_: None)
    for other in (again, resumed):
        assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in taps.items())
        assert torch.equal(other.embed.weight, model.embed.weight)


@pytest.mark.parametrize("trained", [True, False])
def test_other_rooms_know_canon(trained: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    import lm.hf  # noqa: F401
    from lm.hf.convert_weights import to_transformers
    from lm.inference.ablation import without_block
    from lm.transforms.lora import add_lora, merge_lora
    from lm.transforms.quantize import quantize

    switches = {"canon": "ABCD", "qk_norm": True, "canon_learnable": trained}
    model = lively(ModelConfig(2, 2, 16, max_seq_len=32, **switches)).eval()
    tokens = torch.arange(12)[None] % V
    save(model, tmp_path / "model")
    clothed = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    torch.testing.assert_close(clothed(tokens).logits, model(tokens))
    few = quantize(model, 8, method="gptq", calibration=[np.arange(9) % V])
    assert torch.equal(few.blocks[0].canon_d.weight, model.blocks[0].canon_d.weight)
    adapted = add_lora(model, 2, 2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            parameter += 0.05 if ".lora_" in name else 0.0
    torch.testing.assert_close(merge_lora(adapted.eval())(tokens), adapted(tokens), rtol=1e-4, atol=1e-5)
    with without_block(model, 0):
        assert model(tokens).isfinite().all()
    with pytest.raises(UserError, match="canon='ABCD' has no place in transformers' llama"):
        to_transformers(build(ModelConfig.llama(1, 2, 16, canon="ABCD"), V, 0))


def test_reduced_rotary_turns_the_stated_quarter() -> None:
    half, heads, widths = (
        lively(ModelConfig(1, 4, 32, rotary_heads=share, rotary_fraction=part))
        for share, part in ((0.5, 0.5), (0.25, 1.0), (1.0, 0.25))
    )
    for model, turned in ((half, (2, 4)), (heads, (1, 8)), (widths, (4, 2))):
        mixer, x, context = model.blocks[0].mixer, drawn(1, 9, 32), model.make_context(9)
        q, k, _ = mixer.split(mixer.project_heads(x, context), context)
        plain = mixer.qkv(x).unflatten(-1, (12, 8)).transpose(1, 2)
        moved = ~torch.isclose(torch.cat((q, k), 1), plain[:, :8])[0, :, 1:]
        wanted = torch.zeros(8, 8, dtype=torch.bool)
        wanted[: turned[0], : turned[1]] = wanted[4 : 4 + turned[0], : turned[1]] = True
        assert torch.equal(moved.any(1), wanted)


def test_alibi_is_the_written_formula() -> None:
    model = lively(ModelConfig(1, 4, 16, positions="alibi"))
    mixer, x, n = model.blocks[0].mixer, drawn(1, 9, 16), 9
    q, k, _ = mixer.qkv(x)[0].view(n, 3, 4, 4).unbind(1)
    weights = mixer.weights(x, model.make_context(n))
    for h in range(4):
        for i in range(n):
            scores = torch.stack([q[i, h] @ k[j, h] / 2 - (i - j) * 2.0 ** (-2 * (h + 1)) for j in range(i + 1)])
            torch.testing.assert_close(weights[0, h, i, : i + 1], scores.softmax(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("positions", ["alibi", "half_alibi"])
def test_what_alibi_adds_is_made_once_for_all_layers(positions: str) -> None:
    model = lively(ModelConfig(1, 4, 16, positions=positions))
    context = model.make_context(9, torch.tensor([[0] * 4 + [1] * 5, [0] * 9]))
    assert context.mask is context.mask
    assert torch.equal(context.mask.isinf().all(1), ~context.allowed[:, 0])


def test_half_of_the_heads_see_their_own_number_of_tokens() -> None:
    model = lively(ModelConfig(1, 6, 24, positions="half_alibi"))
    seen = (model.blocks[0].mixer.weights(drawn(1, 9, 24), model.make_context(9)) > 0)[0].sum(-1)
    assert seen[:, -1].tolist() == [1, 2, 3, 9, 9, 9]


def test_a_mixer_of_ones_own_is_known_by_its_source(tmp_path: Path) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    for path in (first, second):
        path.write_text(example())
    one, other = (ModelConfig(1, 2, 16, mixer=f"{path}:Fading") for path in (first, second))
    assert digest(one) == digest(other) != digest(ModelConfig(1, 2, 16))
    second.write_text(example() + "\n# another\n")
    assert digest(one) != digest(other)
    assert ModelConfig(1, 2, 16, mixer=str(first)).mixer == str(first), "a file with one mixer needs no name"
    with pytest.raises(UserError, match="place B, which Fading lacks"):
        build(ModelConfig(1, 2, 16, mixer=str(first), canon="B"), V, 0)
    with pytest.raises(UserError, match="defines Fading; name one"):
        ModelConfig(1, 2, 16, mixer=f"{first}:Other")
    with pytest.raises(UserError, match="causal=True"):
        ModelConfig(1, 2, 16, mixer=str(first), causal=False)


def test_a_mixer_that_looks_ahead_is_refused_with_the_position(tmp_path: Path) -> None:
    (tmp_path / "leak.py").write_text(LEAKING)
    (tmp_path / "own.py").write_text(example())
    leaking = build(ModelConfig(1, 2, 16, mixer=str(tmp_path / "leak.py")), 6, 0)
    assert find_causality_violation(leaking, 12) == (2, 5)
    for fine in ({"mixer": str(tmp_path / "own.py")}, {"canon": "ABCD", "positions": "half_alibi"}):
        require_causality(build(ModelConfig(1, 2, 16, **fine), 6, 0))
    with pytest.raises(UserError, match="Leak is not causal: its output at position 2 .* input at position 5"):
        train(leaking, get_task("cfg3b"), TrainConfig(steps=1, batch_size=2, seq_len=16), 0)


@pytest.mark.parametrize(("causal", "seen"), [(True, "16 .* position 0"), (False, "0 .* position 16")])
def test_a_mixer_that_mixes_isolated_documents_is_refused_with_the_position(
    causal: bool, seen: str, tmp_path: Path
) -> None:
    for name, text in (("blur.py", BLURRING), ("own.py", example())):
        (tmp_path / name).write_text(text)
    blurring = build(ModelConfig(1, 2, 16, mixer=str(tmp_path / "blur.py"), causal=causal), 7, 0)
    config = TrainConfig(steps=1, batch_size=2, seq_len=40, objective="causal" if causal else "masked")
    with pytest.raises(UserError, match=f"Blur does not keep isolated documents apart: its output at position {seen}"):
        train(blurring, get_task("cfg3b"), replace(config, document_mask=True), 0)
    train(blurring, get_task("cfg3b"), config, 0)
    require_causality(build(ModelConfig(1, 2, 16, mixer=str(tmp_path / "own.py")), 6, 0), document_mask=True)
