"""Recurrences in chunks against their definition, and the mixers made of them against formulas and peers."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lm.config import ModelConfig
from lm.model import build
from lm.model_size import count_parameters, flops_per_token
from lm.ops import linear_recurrence as scanning
from lm.ops.chunked_recurrence import (
    MAX_LOG_FACTOR,
    MIN_CHUNK_LENGTH,
    MIN_LOG_DECAY,
    chunk_length,
    chunk_linear_recurrence,
)
from lm.ops.linear_recurrence import linear_recurrence, naive_linear_recurrence, recurrent_step
from synth.errors import UserError

FORMS = ("none", "head", "channel")
WEAK, STRONG = 1e-4, 60.0  # decays near 1, and those of which nothing is left


def terms(
    form: str, rows: int, length: int, groups: int, shared: int, key: int, value: int, strength: float = 1.0
) -> list[Tensor | None]:
    """q, k, v, decay and a first state; unit scale, decays exp(-strength |normal|)."""
    heads = groups if form == "channel" else groups * shared
    generator = torch.Generator().manual_seed(length + 7 * key)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, k = draw(rows, length, groups, key) * key**-0.5, draw(rows, length, groups, key)
    decay = {"none": None, "head": (rows, length, heads), "channel": (rows, length, heads, key)}[form]
    every = [q, k, draw(rows, length, heads, value), decay and -strength * draw(*decay).abs()]
    return [x if x is None else x.requires_grad_() for x in [*every, draw(rows, heads, key, value)]]


def documents(rows: int, length: int, number: int) -> Tensor:
    """Where documents begin: everywhere with some probability, so that some are one token long."""
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(length)) < number / length


def gradients(out: Tensor, last: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(3)
    total = (out * torch.randn(out.shape, generator=draw)).sum() + (
        last * torch.randn(last.shape, generator=draw)
    ).sum()
    return torch.autograd.grad(total, inputs, materialize_grads=True)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    """Within 1e-5 of the largest number of the tensor, or of 1."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp_min(1.0)


def assert_chunks_are_the_recurrence(
    inputs: list[Tensor | None], is_doc_start: Tensor | None, longest: int | None
) -> None:
    q, k, v, decay, state = inputs
    ours, wanted = (
        chunk_linear_recurrence(q, k, v, decay, is_doc_start, state, longest),
        naive_linear_recurrence(q, k, v, decay, is_doc_start, state),
    )
    given = [x for x in inputs if x is not None]
    for a, b in zip([*ours, *gradients(*ours, given)], [*wanted, *gradients(*wanted, given)], strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("strength", [WEAK, 0.1, 3.0, STRONG])
@pytest.mark.parametrize("length", [1, 16, 37, 128, 200])
@pytest.mark.parametrize("form", FORMS)
def test_chunks_are_the_recurrence(form: str, length: int, strength: float, isolated: bool) -> None:
    inputs = terms(form, 2, length, 2, 2, 5, 6, strength)
    assert_chunks_are_the_recurrence(inputs, documents(2, length, 5) if isolated else None, None)


@settings(max_examples=60, deadline=None, derandomize=True)
@example("head", 1, 65, 1, 4, 64, 2, 0.01, 0, None)
@given(
    st.sampled_from(FORMS), st.integers(1, 3), st.integers(1, 70), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([WEAK, 0.5, 10.0, STRONG]), st.integers(0, 9),
    st.sampled_from([None, 4, 8, 32]),
)  # fmt: skip
def test_chunks_are_the_recurrence_at_any_shape(
    form: str, rows: int, length: int, groups: int, shared: int, key: int, value: int, strength: float, number: int,
    longest: int | None,
) -> None:  # fmt: skip
    inputs = terms(form, rows, length, groups, shared, key, value, strength)
    assert_chunks_are_the_recurrence(inputs, documents(rows, length, number) if number else None, longest)


@pytest.mark.parametrize("form", ["head", "channel"])
def test_a_decay_is_clamped_in_generation_as_in_training(form: str) -> None:
    q, k, v, decay, state = (None if x is None else x.detach() for x in terms(form, 1, 1, 1, 1, 2, 2))
    token = (q[:, 0], k[:, 0], 0 * v[:, 0])
    strong, clamped = (torch.full_like(decay[:, 0], value) for value in (-100.0, MIN_LOG_DECAY))
    state = 1e12 * state  # so that what is left of it can be seen
    assert torch.equal(recurrent_step(*token, strong, state)[1], recurrent_step(*token, clamped, state)[1])
    assert recurrent_step(*token, strong, state)[1].abs().max() > 100


def test_one_strong_decay_shortens_the_chunks_and_nothing_else() -> None:
    inputs = terms("channel", 2, 64, 2, 1, 4, 4, 0.01)
    assert chunk_length(inputs[3], 32) == 32
    with torch.no_grad():
        inputs[3][1, 40, 0, 2] = -100.0
    assert chunk_length(inputs[3], 32) == MIN_CHUNK_LENGTH
    assert chunk_length(torch.tensor([-MAX_LOG_FACTOR / 4]), 32) == 8
    assert chunk_length(torch.tensor([-MAX_LOG_FACTOR, torch.nan]), 32) == MIN_CHUNK_LENGTH
    assert_chunks_are_the_recurrence(inputs, None, 32)


def test_going_on_from_a_state_is_one_sequence() -> None:
    q, k, v, decay, _ = terms("channel", 2, 50, 2, 1, 4, 4)
    whole, last = chunk_linear_recurrence(q, k, v, decay)
    first, state = chunk_linear_recurrence(*(x[:, :23] for x in (q, k, v, decay)))
    second, after = chunk_linear_recurrence(*(x[:, 23:49] for x in (q, k, v, decay)), initial_state=state)
    final, end = recurrent_step(*(x[:, 49] for x in (q, k, v, decay)), after)
    assert_same(torch.cat((first, second, final[:, None]), 1), whole)
    assert_same(end, last)


@pytest.mark.parametrize("form", FORMS)
def test_bf16_goes_in_and_fp32_comes_out(form: str) -> None:
    inputs = [x if x is None else x.detach().bfloat16() for x in terms(form, 1, 33, 2, 2, 4, 4)]
    with torch.autocast("cpu", torch.bfloat16):
        out, last = chunk_linear_recurrence(*inputs[:4])
    wanted, end = naive_linear_recurrence(*(x if x is None else x.float() for x in inputs[:4]))
    assert_same(out, wanted)
    assert_same(last, end)


@pytest.mark.parametrize("conv", [True, False])
def test_mamba2_is_that_of_transformers(conv: bool) -> None:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    ours: Any = (
        build(ModelConfig(1, 4, 32, mixer="mamba2", d_state=8, bias=False, use_short_conv=conv), 5, 0).blocks[0].mixer
    )
    config = Mamba2Config(
        hidden_size=32, num_heads=4, head_dim=16, state_size=8, n_groups=1, chunk_size=16, num_hidden_layers=1,
        use_conv_bias=False,
    )  # fmt: skip
    theirs = Mamba2Mixer(config, 0)
    with torch.no_grad():
        if conv:
            theirs.conv1d.weight.copy_(ours.conv.weight[:, None])
        else:
            theirs.act, theirs.activation = torch.nn.Identity(), None
            theirs.conv1d.weight.zero_()[..., -1] = 1.0
        for a, b in zip(
            (theirs.in_proj.weight, theirs.A_log, theirs.D, theirs.dt_bias, theirs.norm.weight, theirs.out_proj.weight),
            (ours.projection.weight, ours.A_log, ours.D, ours.dt_bias, ours.norm.weight, ours.out.weight),
            strict=True,
        ):
            b.mul_(1.3).add_(0.05)  # away from the initial values, most of which are equal
            a.copy_(b)
    x = torch.randn(2, 50, 32, generator=torch.Generator().manual_seed(0))
    context = build(ModelConfig(1, 4, 32, positions="none"), 5, 0).make_context(50)
    torch.testing.assert_close(ours(x, context), theirs(x), rtol=1e-5, atol=1e-6)


def test_mamba2_begins_as_that_of_transformers() -> None:
    mixer: Any = build(ModelConfig(1, 8, 64, mixer="mamba2"), 5, 0).blocks[0].mixer
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 9.0))
    steps = torch.nn.functional.softplus(mixer.dt_bias)
    assert (steps >= 1e-3 - 1e-6).all() and (steps <= 1e-1 + 1e-6).all() and steps.std() > 0
    assert (mixer.D == 1).all() and (mixer.norm.weight == 1).all()


def test_linear_attention_is_the_written_formula() -> None:
    config = ModelConfig(1, 2, 8, mixer="linear", use_short_conv=False, positions="none")
    model = build(config, 5, 0)
    mixer: Any = model.blocks[0].mixer
    x = torch.randn(1, 9, 8, generator=torch.Generator().manual_seed(0))
    q, k, v = mixer.qkv(x * 30)[0].view(9, 3, 2, 4).unbind(1)
    weights = torch.einsum("thd,shd->hts", torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1).tril()
    mixed = torch.einsum("hts,shd->thd", weights / weights.sum(-1, keepdim=True), v)
    torch.testing.assert_close(
        mixer(x * 30, model.make_context(9))[0], mixer.out(mixed.flatten(1)), rtol=1e-5, atol=1e-6
    )


def test_gla_forgets_by_the_sixteenth_root_of_a_sigmoid() -> None:
    model = build(ModelConfig(1, 2, 16, mixer="gla", use_short_conv=False, positions="none"), 5, 0)
    mixer: Any = model.blocks[0].mixer
    x = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(0))
    q, k, v = mixer.qkv(x).split((8, 8, 16), -1)
    gates = torch.sigmoid(mixer.forget_out(mixer.forget_in(x))) ** (1 / 16)
    state, mixed = torch.zeros(2, 4, 8), torch.zeros(9, 2, 8)
    for t in range(9):
        state = gates[0, t].view(2, 4, 1) * state + k[0, t].view(2, 4, 1) * v[0, t].view(2, 1, 8)
        mixed[t] = (q[0, t].view(2, 4, 1) * state).sum(1) / 2
    normed = mixed / (mixed.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    wanted = mixer.out(normed.flatten(1) * torch.nn.functional.silu(mixer.gate(x[0])))
    torch.testing.assert_close(mixer(x, model.make_context(9))[0], wanted, rtol=1e-5, atol=1e-6)


def test_sizes_are_those_of_the_paper() -> None:
    """Per layer in units of D^2: 4 in linear attention and GLA, 6 in Mamba2; what is left grows with D only."""
    width = 768
    for mixer, units, heads in (("linear", 4, 4), ("gla", 4, 4), ("mamba2", 6, 16)):
        config = ModelConfig.llama(1, heads, width, mixer=mixer, mlp="none")
        size = count_parameters(build(config, 5, 0))["non_embedding"]
        assert 0 <= size / width**2 - units < 0.35, mixer


def test_cost_does_not_grow_with_the_window() -> None:
    config = ModelConfig(2, 4, 64, mixer="gla")
    assert flops_per_token(config, 5, 100) == flops_per_token(config, 5, 1000)
    halved = 6 * sum(p.numel() for n, p in build(config, 5, 0).named_parameters() if p.ndim > 1)
    assert flops_per_token(config, 5, 100) == halved + 3 * 2 * 4 * (4 * 8 * 16)


def test_odd_heads_cannot_be_halved() -> None:
    with pytest.raises(UserError, match="mixer=gla halves heads of width 3"):
        build(ModelConfig(1, 2, 6, mixer="gla", positions="none"), 5, 0)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for flash-linear-attention that follows the definition, and the names of what was called."""
    called: list[str] = []

    def kernel(name: str) -> Any:
        def run(q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, scale: float, output_final_state: bool,
                cu_seqlens: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
            assert scale == 1.0 and output_final_state and q.shape[2] == v.shape[2] and q.dtype == v.dtype
            called.append(name)
            if cu_seqlens is None:
                return naive_linear_recurrence(q, k, v, g)
            pieces = zip(cu_seqlens[:-1], cu_seqlens[1:], strict=True)
            done = [naive_linear_recurrence(*(x if x is None else x[:, a:b] for x in (q, k, v, g))) for a, b in pieces]
            return torch.cat([out for out, _ in done], 1), torch.cat([last for _, last in done])

        return run

    for path, name in (("fla.ops.gla", "chunk_gla"), ("fla.ops.simple_gla", "chunk_simple_gla")):
        module = ModuleType(path)
        setattr(module, name, kernel(name))
        monkeypatch.setitem(sys.modules, path, module)
    monkeypatch.setitem(sys.modules, "fla", ModuleType("fla"))
    monkeypatch.setitem(sys.modules, "fla.ops", ModuleType("fla.ops"))
    return called


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize(
    ("form", "name"), [("none", "chunk_simple_gla"), ("head", "chunk_simple_gla"), ("channel", "chunk_gla")]
)
def test_kernels_get_what_they_expect(form: str, name: str, isolated: bool, kernels: list[str]) -> None:
    q, k, v, decay, _ = terms(form, 3, 20, 2, 2, 4, 3)
    is_doc_start = documents(3, 20, 4) if isolated else None
    for found, wanted in zip(
        scanning.fla_linear_recurrence(q, k, v, decay, is_doc_start),
        naive_linear_recurrence(q, k, v, decay, is_doc_start),
        strict=True,
    ):
        assert_same(found, wanted)
    assert kernels == [name]


def test_kernels_are_for_a_gpu(kernels: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "has_fla", lambda: True)
    linear_recurrence(*terms("head", 1, 8, 1, 2, 4, 3)[:4])
    assert not kernels
