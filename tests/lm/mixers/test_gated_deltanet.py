"""The gated delta rule, each way of computing it against the recurrence as written, and the mixer built on it."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lm.config import ModelConfig
from lm.mixers import mixer_class
from lm.mixers.gated_deltanet import GatedDeltaNet
from lm.model import build
from lm.model_size import count_parameters, flops_per_token
from lm.ops import gated_delta_rule as module
from lm.ops.chunked_delta_rule import chunk_gated_delta_rule, l2_normalize
from lm.ops.cpu_delta_rule import LANES, cpu_gated_delta_rule
from lm.ops.gated_delta_rule import (
    fla_gated_delta_rule,
    gated_delta_rule,
    load_fla_kernel,
    naive_gated_delta_rule,
)

Case = dict[str, Tensor]


def case(length: int, batch: int = 2, heads: int = 3, key: int = 5, value: int = 7, seed: int = 0) -> Case:
    """Random inputs with a memory from before and no border."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    return {
        "q": normal(batch, length, heads, key), "k": normal(batch, length, heads, key),
        "v": normal(batch, length, heads, value),
        "log_decay": -torch.nn.functional.softplus(3 * normal(batch, length, heads)),
        "beta": normal(batch, length, heads).sigmoid(), "initial_state": normal(batch, heads, key, value),
    }  # fmt: skip


def borders(batch: int, length: int, share: float) -> Tensor:
    begins = torch.rand(batch, length, generator=torch.Generator().manual_seed(3)) < share
    begins[:, 0] = True
    return begins


def plain(q: Tensor, k: Tensor, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
    """The written recurrence of what `gated_delta_rule` takes."""
    return naive_gated_delta_rule(l2_normalize(q), l2_normalize(k), *rest, **more)


def chunks(size: int) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda q, k, *rest, **more: chunk_gated_delta_rule(
        l2_normalize(q), l2_normalize(k), *rest, **more, chunk=size
    )


WAYS = {"4": chunks(4), "16": chunks(16), "64": chunks(64), "lanes": cpu_gated_delta_rule}


def everything(way: Callable[..., tuple[Tensor, Tensor]], inputs: Case, begins: Tensor | None) -> list[Tensor]:
    """Result, final memory and the gradient of every input."""
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    named = dict(leaves)
    order = [named.pop(name) for name in ("q", "k", "v", "log_decay", "beta")]
    out, memory = way(*order, is_doc_start=begins, **named)
    random = torch.Generator().manual_seed(9)
    loss = sum((x * torch.randn(x.shape, generator=random)).sum() for x in (out, memory))
    return [out.detach(), memory.detach(), *torch.autograd.grad(loss, list(leaves.values()))]


def assert_same(way: str, inputs: Case, begins: Tensor | None = None) -> None:
    """Within 1e-5, of the largest number where that is above 1 (a gradient sums over all that follows), of the written
    recurrence in fp64; or no further from it than eight times that recurrence in fp32 is, where a nearly zero key
    makes the gradient of its length ill-conditioned."""
    names = ["out", "memory", *inputs]
    exact = everything(plain, {name: x.double() for name, x in inputs.items()}, begins)
    found, naive = everything(WAYS[way], inputs, begins), everything(plain, inputs, begins)
    for name, a, b, truth in zip(names, found, naive, exact, strict=True):
        bound = max(1e-5 * max(1.0, float(truth.abs().max())), 8 * float((b - truth).abs().max()))
        assert float((a - truth).abs().max()) <= bound, f"{way}: {name}"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [1, 3, 16, 17, 77])
def test_equals_the_recurrence(way: str, length: int) -> None:
    assert_same(way, case(length))


@pytest.mark.parametrize("rows", [LANES - 1, LANES, LANES + 1])
def test_lanes_that_are_full_and_that_are_not(rows: int) -> None:
    assert_same("lanes", case(10, batch=rows, heads=1))
    assert_same("lanes", case(10, batch=rows, heads=3), borders(rows, 10, 0.1))


def test_the_way_is_chosen_by_what_it_can_do() -> None:
    q = torch.zeros(1, 1, 1, 1)
    assert module.prefers_cpu_kernel(q, 288, torch.float32)
    assert not module.prefers_cpu_kernel(q, 96 * 192, torch.float32)
    assert not module.prefers_cpu_kernel(q, 288, torch.bfloat16)
    assert not module.prefers_cpu_kernel(q.double(), 288, torch.float64)
    for key, value in ((5, 7), (96, 192)):  # small and large
        x = case(20, key=key, value=value)
        for a, b in zip(gated_delta_rule(**x), plain(**x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_documents_begin_anew(way: str, share: float) -> None:
    assert_same(way, case(50), borders(2, 50, share))
    begins = borders(2, 50, share)
    begins[:, 0] = False  # what was before the row belongs to its first document
    assert_same(way, case(50), begins)


def extreme(name: str) -> Case:
    inputs = case(70)
    if name == "same keys, all rewritten":
        inputs["k"] = inputs["k"][:, :1].expand(-1, 70, -1, -1).clone()
        inputs["beta"] = torch.full_like(inputs["beta"], 1 - 1e-6)
        inputs["log_decay"] = torch.full_like(inputs["log_decay"], -1e-6)
    elif name == "nothing forgotten":
        inputs["log_decay"] = torch.zeros_like(inputs["log_decay"])
    elif name == "all forgotten":
        inputs["log_decay"] = torch.full_like(inputs["log_decay"], -200.0)
    elif name == "strong among weak":
        strong = torch.rand(inputs["log_decay"].shape, generator=torch.Generator().manual_seed(4)) < 0.2
        inputs["log_decay"] = torch.where(strong, -5000.0, -1e-3)
    else:
        inputs["beta"] = torch.full_like(inputs["beta"], float(name))
    return inputs


EXTREMES = ("same keys, all rewritten", "nothing forgotten", "all forgotten", "strong among weak", "0", "1")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(way: str, name: str) -> None:
    assert_same(way, extreme(name))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from([0.0, 0.1, 0.7]), st.integers(0, 2**31), st.sampled_from(list(WAYS)),
)  # fmt: skip
def test_any_shape(
    length: int, batch: int, heads: int, key: int, value: int, share: float, seed: int, way: str
) -> None:
    inputs = case(length, batch, heads, key, value, seed)
    assert_same(way, inputs, borders(batch, length, share) if share else None)


def test_one_row_of_equal_keys_holds_the_last_value() -> None:
    """What the delta rule is for: a key that is written again forgets what it held; a sum would keep both."""
    inputs = case(5)
    inputs["k"] = inputs["k"][:, :1].expand(-1, 5, -1, -1)
    inputs |= {"q": inputs["k"], "beta": torch.ones(2, 5, 3), "log_decay": torch.zeros(2, 5, 3)}
    inputs["initial_state"] = torch.zeros_like(inputs["initial_state"])
    torch.testing.assert_close(gated_delta_rule(**inputs)[0], inputs["v"], rtol=1e-4, atol=1e-5)


def test_a_cut_sequence_goes_on_from_its_memory() -> None:
    inputs = case(40)
    whole, last = gated_delta_rule(**inputs)
    memory, parts = inputs.pop("initial_state"), []
    for piece in (slice(0, 13), slice(13, 14), slice(14, 40)):
        part, memory = gated_delta_rule(**{name: x[:, piece] for name, x in inputs.items()}, initial_state=memory)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(memory, last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("other", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
def test_equals_the_rule_of_transformers(other: str) -> None:
    theirs = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    x = case(90)
    read, memory = getattr(theirs, other)(
        x["q"], x["k"], x["v"], x["log_decay"], x["beta"],
        initial_state=x["initial_state"], output_final_state=True, use_qk_l2norm_in_kernel=True,
    )  # fmt: skip
    ours, last = gated_delta_rule(**x)
    torch.testing.assert_close(ours, read * 5**0.5, rtol=1e-5, atol=1e-5)  # they scale by the square root of K
    torch.testing.assert_close(last, memory, rtol=1e-5, atol=1e-5)


def fake_kernel(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    """As flash-linear-attention's, by the recurrence."""
    assert settings["scale"] == 1.0 and settings["output_final_state"] and settings["use_qk_l2norm_in_kernel"]
    cuts = settings.get("cu_seqlens")
    if cuts is None:
        return plain(q, k, v, g, beta, initial_state=settings["initial_state"])
    assert len(q) == 1 and cuts[0] == 0 and cuts[-1] == q.shape[1]
    parts = [plain(*(x[:, a:b] for x in (q, k, v, g, beta))) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    return torch.cat([out for out, _ in parts], 1), torch.cat([memory for _, memory in parts])


def test_flash_linear_attention_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("fla.ops.gated_delta_rule")
    fake.chunk_gated_delta_rule = fake_kernel  # type: ignore[attr-defined]
    for name, fake_module in (("fla", ModuleType("fla")), ("fla.ops", ModuleType("fla.ops")), (fake.__name__, fake)):
        monkeypatch.setitem(sys.modules, name, fake_module)
    load_fla_kernel.cache_clear()
    assert load_fla_kernel() is fake_kernel
    monkeypatch.delitem(sys.modules, "fla.ops.gated_delta_rule")
    load_fla_kernel.cache_clear()
    assert load_fla_kernel() is None
    load_fla_kernel.cache_clear()
    assert module.can_use_fla("cuda", torch.bfloat16, has_doc_starts=True, has_initial_state=False)
    for wrong in (("cpu", torch.bfloat16, False, False), ("cuda", torch.float32, False, False)):
        assert not module.can_use_fla(*wrong)
    assert not module.can_use_fla("cuda", torch.bfloat16, has_doc_starts=True, has_initial_state=True)


@pytest.mark.parametrize("share", [None, 0.2])
def test_what_flash_linear_attention_is_given(share: float | None) -> None:
    x = case(30)
    order = [x[name] for name in ("q", "k", "v", "log_decay", "beta")]
    begins, initial = (None, x["initial_state"]) if share is None else (borders(2, 30, share), None)
    found = fla_gated_delta_rule(fake_kernel, *order, begins, initial)
    for a, b in zip(found, plain(*order, begins, initial), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def mixer(**changes: Any) -> GatedDeltaNet:
    found = build(ModelConfig(1, 4, 32, mixer="gdn", init_std=0.3, **changes), 5, 0).blocks[0].mixer
    assert isinstance(found, GatedDeltaNet)
    return found


def test_found_by_name_and_its_size() -> None:
    assert mixer_class("gdn") is GatedDeltaNet
    config = ModelConfig(1, 4, 512, mixer="gdn", mlp="none")
    counts = count_parameters(build(config, 3, 0))
    # 6 D^2, a and b, three short convolutions of kernel 4, decays, two norms of a block and the model, one of a head
    assert counts["non_embedding"] == 6 * 512**2 + 2 * 4 * 512 + 3 * 4 * 512 + 2 * 4 + 4 * 512 + 192
    state = 3 * 6 * 4 * 96 * 192  # three products with each number of the state forward, and twice that backward
    assert flops_per_token(config, 3, 100) == 6 * (6 * 512**2 + 2 * 4 * 512 + 3 * 4 * 512 + 3 * 512) + state


@pytest.mark.parametrize(("width", "key", "value"), [(512, 96, 192), (64, 12, 24), (24, 5, 9), (20, 4, 8), (4, 1, 2)])
def test_widths_of_heads(width: int, key: int, value: int) -> None:
    heads = GatedDeltaNet(ModelConfig(1, 4, width, positions="none", mixer="gdn"))
    assert (heads.key, heads.value) == (key, value)
    assert heads(torch.randn(1, 3, width), build(ModelConfig(), 3, 0).make_context(3)).shape == (1, 3, width)


@torch.inference_mode()
def test_how_it_begins() -> None:
    model = build(ModelConfig(64, 4, 8, positions="none", mixer="gdn", mlp="none"), 3, 0)
    rates = torch.stack([block.mixer.A_log for block in model.blocks]).exp()
    steps = torch.nn.functional.softplus(torch.stack([block.mixer.dt_bias for block in model.blocks]))
    assert 0 < rates.min() < 0.5 and 15.5 < rates.max() <= 16 and 7 < rates.mean() < 9
    assert 0.001 <= steps.min() < 0.0012 and 0.09 < steps.max() <= 0.1001
    assert float(steps.log().mean()) == pytest.approx(-4.6, abs=0.3)  # the middle of their logarithms
    taps = torch.stack([block.mixer.conv.weight for block in model.blocks])
    assert float(taps.std()) == pytest.approx(0.02, rel=0.1)


def test_the_mixer_is_the_written_formula() -> None:
    net, x = mixer(), torch.randn(2, 9, 32)
    context = build(ModelConfig(), 3, 0).make_context(9)
    qkv = net.qkv(x)
    padded = torch.nn.functional.pad(qkv, (0, 0, 3, 0))
    qkv = torch.nn.functional.silu(sum(padded[:, j : j + 9] * net.conv.weight[:, j] for j in range(4)))
    q, k, v = (part.view(2, 9, 4, -1) for part in qkv.split([24, 24, 48], -1))
    a, b = net.rates(x).split(4, -1)
    decay = torch.exp(-net.A_log.exp() * torch.log1p(torch.exp(a + net.dt_bias)))
    q, k = (z / z.norm(dim=-1, keepdim=True) for z in (q, k))
    memory, read = torch.zeros(2, 4, 12, 6), []
    for t in range(9):
        key, rate = k[:, t], torch.sigmoid(b)[:, t, :, None, None]
        erase = torch.eye(6) - rate * key[..., :, None] * key[..., None, :]
        memory = decay[:, t, :, None, None] * memory @ erase + rate * v[:, t, ..., None] * key[..., None, :]
        read.append((memory @ q[:, t, ..., None])[..., 0])
    out = torch.stack(read, 2).transpose(1, 2)
    gate = torch.nn.functional.silu(net.gate(x)).view(2, 9, 4, 12)
    normed = out / (out.square().mean(-1, keepdim=True) + 6e-5).sqrt() * net.norm.weight * gate
    torch.testing.assert_close(net(x, context), normed.flatten(2) @ net.out.weight.T, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(
    "changes", [{}, {"use_short_conv": False}, {"canon": "B"}, {"use_short_conv": False, "canon": "ABCD"}]
)
def test_stepping_is_forward(changes: dict) -> None:
    model = build(ModelConfig(2, 4, 32, positions="none", mixer="gdn", init_std=0.3, **changes), 5, 0)
    inputs = torch.randint(5, (3, 40), generator=torch.Generator().manual_seed(0))
    whole = model(inputs)
    for prompt in (1, 17, 33):
        caches = model.empty_caches(3, 40)
        parts = [model(inputs[:, :prompt], caches=caches)]
        parts += [model.step(inputs[:, t], caches, t)[:, None] for t in range(prompt, 40)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_a_remembered_row_can_be_dropped() -> None:
    net, context = mixer(), build(ModelConfig(), 3, 0).make_context(6)
    x = torch.randn(4, 6, 32)
    state = net.empty_cache(4, 6, context)
    net.prefill(x[:, :5], build(ModelConfig(), 3, 0).make_context(5), state)
    state.select_rows(torch.tensor([2, 0]))
    torch.testing.assert_close(
        net.step(x[[2, 0], 5], state, 5, context), net(x, context)[[2, 0], 5], rtol=1e-4, atol=1e-5
    )


def test_under_autocast_the_rule_keeps_its_digits() -> None:
    net, context = mixer(), build(ModelConfig(), 3, 0).make_context(50)
    x = torch.randn(2, 50, 32)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, context)
    assert half.dtype == torch.bfloat16
    assert (half - net(x, context)).norm() < 0.03 * net(x, context).norm()
