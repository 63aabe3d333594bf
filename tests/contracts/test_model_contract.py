"""Every architecture keeps one contract: causal, isolating, streaming, pure in its seed, and at home on disk."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.inference.sampling import generate
from lm.model import MIXERS, Decoder, build
from lm.model_size import count_parameters, flops_per_token
from lm.pretrained import load, save
from synth.errors import UserError

V, T = 7, 24
SWITCHES = {
    "quarter": {"d_ff": 24}, "silu": {"mlp": "silu"}, "geglu": {"mlp": "geglu"}, "no-mlp": {"mlp": "none"},
    "untied": {"tie_embeddings": False}, "experts": {"n_experts": 4, "d_ff": 24},
    "gated-experts": {"n_experts": 4, "mlp": "swiglu", "top_k": 2, "bias": False},
}  # fmt: skip
CASES = {f"{p}-{flavour}": (flavour, {"positions": p}) for p, flavour in product(MIXERS, ("gpt2", "llama"))}
CASES |= {name: ("gpt2", {"positions": "rotary", **changes}) for name, changes in SWITCHES.items()}
CANON = {
    "canon": {"canon": "ABCD"}, "canon-ac": {"canon": "AC", "positions": "learned", "canon_kernel": 2},
    "canon-b": {"canon": "B", "canon_kernel": 3, "positions": "alibi"},
    "canon-d-gated": {"canon": "D", "mlp": "swiglu"},
    "canon-bare": {"canon": "ABCD", "canon_residual": False}, "canon-silu": {"canon": "ABCD", "canon_activation": True},
    "canon-bare-silu": {"canon": "ABD", "canon_residual": False, "canon_activation": True},
    "canon-constant": {"canon": "ABCD", "canon_learnable": False, "qk_norm": True},
    "canon-relative": {"canon": "ACD", "positions": "relative"},
    "canon-experts": {"canon": "ABC", "n_experts": 3, "top_k": 2}, "canon-no-mlp": {"canon": "AB", "mlp": "none"},
    "qk-norm": {"qk_norm": True, "rotary_heads": 0.34}, "relu2": {"mlp": "relu2"}, "reglu2": {"mlp": "reglu2"},
}  # fmt: skip
CASES |= {name: ("gpt2", {"positions": "rotary", **changes}) for name, changes in CANON.items()}
CASES |= {
    f"gdn{name}": ("llama", {"positions": "none", "mixer": "gdn", **changes})
    for name, changes in {
        "": {},
        "-noconv": {"use_short_conv": False},
        "-AbCD": {"canon": "ACD"},
        "-B": {"canon": "B"},
    }.items()
}
RECURRENT = ("linear", "gla", "mamba2")
CASES |= {f"{m}-{f}": (f, {"mixer": m, "positions": "none"}) for m, f in product(RECURRENT, ("gpt2", "llama"))}
CASES |= {f"{m}-noconv": ("llama", {"mixer": m, "use_short_conv": False, "d_state": 5}) for m in RECURRENT}
CASES |= {f"{m}-AbCD": ("llama", {"mixer": m, "canon": "ACD"}) for m in RECURRENT}
CASES |= {f"{m}-ABCD": ("gpt2", {"mixer": m, "use_short_conv": False, "canon": "ABCD"}) for m in RECURRENT}
OWN = {"own": ("gpt2", {"mixer": "own.py"}), "own-canon": ("llama", {"mixer": "own.py", "canon": "ACD"})}


def example() -> str:
    """The mixer that the documentation shows."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "architectures.md").read_text()
    return text.partition("```python\n")[2].partition("```")[0]


def lively(config: ModelConfig, seed: int = 0) -> Decoder:
    """A model whose every weight matters: fresh ones are so near zero that a broken path would hardly show."""
    model = build(config, V, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    return model


@pytest.fixture(params=(CASES | OWN).values(), ids=CASES | OWN)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Decoder:
    """In eval mode, where experts leave no token out."""
    flavour, changes = request.param
    if changes.get("mixer") == "own.py":
        (tmp_path / "own.py").write_text(example())
        changes = changes | {"mixer": f"{tmp_path}/own.py:Fading"}
    fraction = 0.5 if flavour == "gpt2" else 1.0
    make = getattr(ModelConfig, flavour)
    return lively(make(2, 3, 24, max_seq_len=32, rotary_fraction=fraction, **changes)).eval()


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


def test_shape_and_causality_by_gradient(model: Decoder, inputs: torch.Tensor) -> None:
    seen: list[torch.Tensor] = []
    original = model.embed_tokens
    model.embed_tokens = lambda *a: seen.append(original(*a).detach().requires_grad_()) or seen[-1]  # type: ignore[method-assign]
    logits = model(inputs)
    assert logits.shape == (3, T, V)
    logits[:, 10].square().sum().backward()
    reach = seen[0].grad.abs().sum((0, 2))
    assert (reach[:11] > 0).all(), "a position does not see all of its past"
    assert (reach[11:] == 0).all(), "a position sees its future"


@pytest.mark.parametrize(("kind", "share"), [(torch.bfloat16, 0.2), (torch.float16, 0.05), (torch.float64, 1e-4)])
def test_weights_may_be_of_any_precision(model: Decoder, inputs: torch.Tensor, kind: torch.dtype, share: float) -> None:
    """The recurrences stay in fp32; logits differ by rounding, which these lively weights amplify."""
    expected = model(inputs).detach()
    logits = model.to(kind)(inputs)
    assert logits.dtype == kind
    assert (logits.float() - expected).abs().mean() <= share * expected.abs().mean()
    model(inputs, torch.tensor([[0] * 10 + [1] * (T - 10)] * 3)).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert len(generate(model, [inputs[0, :5].numpy()], 4, temperature=0.0)[0]) == 4


def test_packed_and_isolated_equals_alone(model: Decoder, inputs: torch.Tensor) -> None:
    cuts = [0, 9, 14, T]
    documents = torch.zeros_like(inputs)
    documents[:, 9:14], documents[:, 14:] = 1, 2
    together = model(inputs, documents)
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        torch.testing.assert_close(together[:, a:b], model(inputs[:, a:b]), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("given", [1, 10])
def test_steps_give_the_logits_of_the_whole(model: Decoder, inputs: torch.Tensor, given: int) -> None:
    caches = model.empty_caches(3, T)
    parts = [model(inputs[:, :given], caches=caches)]
    parts += [model.step(inputs[:, t], caches, t)[:, None] for t in range(given, T)]
    torch.testing.assert_close(torch.cat(parts, 1), model(inputs), rtol=1e-4, atol=1e-4)


def test_ragged_prompts_give_what_single_prompts_give(model: Decoder, inputs: torch.Tensor) -> None:
    prompts = [inputs[0, :c].numpy() for c in (5, 1, 9, 5, 2)]
    together = generate(model, prompts, 12, eos=3, seed=5)
    in_twos = [row for i in (0, 2, 4) for row in generate(model, prompts[i : i + 2], 12, eos=3, seed=5, first=i)]
    alone = [generate(model, [p], 12, eos=3, seed=5, first=i)[0] for i, p in enumerate(prompts)]
    for a, b, c in zip(together, in_twos, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
        assert len(a) == 12 or a[-1] == 3
        assert (a[:-1] != 3).all()


def test_a_row_does_not_depend_on_its_batch(model: Decoder, inputs: torch.Tensor) -> None:
    torch.testing.assert_close(model(inputs)[1:2], model(inputs[1:2]), rtol=1e-4, atol=1e-4)


def test_gradient_reaches_every_parameter(model: Decoder, inputs: torch.Tensor) -> None:
    model(inputs).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_weights_are_a_pure_function_of_the_seed(model: Decoder) -> None:
    before = torch.get_rng_state()
    one, two, other = (build(model.config, V, seed) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), before), "the global random numbers were touched"
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)


def test_save_and_load(model: Decoder, inputs: torch.Tensor, tmp_path) -> None:
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config == model.config
    assert torch.equal(again(inputs), model(inputs))


def test_counts(model: Decoder) -> None:
    counts = count_parameters(model)
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert (counts["active"] < counts["total"]) == bool(model.config.n_experts)
    assert flops_per_token(model.config, V, T) > 0


def test_flops_of_gpt2_by_hand() -> None:
    # 12 D^2 a block and the output table, times 6; attention 12 L D T
    assert flops_per_token(ModelConfig.gpt2(4, 4, 128), 6, 512) == 6 * (4 * 12 * 128**2 + 6 * 128) + 12 * 4 * 128 * 512


def test_rotary_fraction_one_half_turns_half() -> None:
    whole, half = (lively(ModelConfig(1, 2, 16, rotary_fraction=f)) for f in (1.0, 0.5))
    inputs = torch.randint(V, (1, 8))
    assert not torch.allclose(whole(inputs), half(inputs))


def test_uniform_heads_average_the_stated_windows() -> None:
    model = lively(ModelConfig(1, 3, 12, positions="uniform"))
    mixer, x = model.blocks[0].mixer, torch.randn(1, 20, 12)
    value = mixer.value(x).unflatten(-1, (3, 4))
    dense = torch.stack(
        [torch.stack([value[0, max(0, i - 2**h + 1) : i + 1, h - 1].mean(0) for i in range(20)]) for h in (1, 2, 3)],
        1,
    )
    expected = mixer.out(dense.flatten(1))
    torch.testing.assert_close(mixer(x, model.make_context(20))[0], expected, rtol=1e-4, atol=1e-5)


def test_relative_attention_is_the_written_formula() -> None:
    model = lively(ModelConfig(1, 2, 8, max_seq_len=16, positions="relative"))
    mixer, x, n = model.blocks[0].mixer, torch.randn(1, 9, 8), 9
    q, k, v = mixer.qkv(x)[0].view(n, 3, 2, 4).unbind(1)
    qr, kr = mixer.distance_qk(model.positions.weight).view(16, 2, 2, 4).unbind(1)
    mixed = torch.zeros(n, 2, 4)
    for i, h in product(range(n), range(2)):
        scores = torch.stack(
            [q[i, h] @ k[j, h] + q[i, h] @ kr[i - j, h] + qr[i - j, h] @ k[j, h] for j in range(i + 1)]
        )
        mixed[i, h] = (scores / (3 * 4) ** 0.5).softmax(0) @ v[: i + 1, h]
    torch.testing.assert_close(mixer(x, model.make_context(n))[0], mixer.out(mixed.flatten(1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [5, 128, 129, 300])
@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("isolated", [True, False])
def test_block_attention_is_scaled_dot_product_attention(length: int, rotary: bool, isolated: bool) -> None:
    from lm.layers.positions import apply_rotary, rotary_table
    from lm.ops.cpu_attention import block_attention

    qkv = torch.randn(2, length, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    steps = torch.arange(length)
    allowed = (steps[:, None] >= steps) & ((steps[:, None] < 3) == (steps < 3)) if isolated else None
    allowed = allowed.expand(2, 1, -1, -1) if allowed is not None else None
    angles = tuple(t[:length] for t in rotary_table(512, 4, 1e4, qkv.device)) if rotary else None
    qk, v = qkv.split((4, 2), 2)
    q, k = (apply_rotary(qk, *angles) if angles else qk).transpose(1, 2).chunk(2, 1)
    attend = torch.nn.functional.scaled_dot_product_attention
    plain = attend(q, k, v.transpose(1, 2), allowed, is_causal=allowed is None)
    ours = block_attention(qkv, allowed, angles)
    torch.testing.assert_close(ours, plain.transpose(1, 2), rtol=1e-4, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    (wanted,) = torch.autograd.grad((plain.transpose(1, 2) * weight).sum(), qkv, retain_graph=True)
    (got,) = torch.autograd.grad((ours * weight).sum(), qkv)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"d_model": 10, "n_heads": 4}, "n_heads"), ({"n_layers": 0}, "n_layers"),
        ({"rotary_fraction": 0.0}, "rotary_fraction"), ({"d_model": 4, "n_heads": 4}, "rotate"), ({"d_ff": 0}, "d_ff"),
        ({"n_experts": 2, "top_k": 3}, "top_k"), ({"canon": "BA"}, "in order"), ({"canon": "AE"}, "ABCD"),
        ({"canon": "A", "canon_kernel": 1}, "canon_kernel"), ({"canon": "AC", "mlp": "none"}, "leave out C"),
        ({"canon": "D", "n_experts": 2}, "leave out D"), ({"canon": "A", "causal": False}, "causal=True"),
        ({"rotary_heads": 0.2}, "rotary_heads"), ({"rotary_heads": 1.5}, "rotary_heads"),
        ({"positions": "uniform", "qk_norm": True}, "qk_norm"),
        ({"positions": "half_alibi", "n_heads": 1}, "half_alibi"),
        ({"positions": "alibi", "causal": False}, "causal"), ({"mixer": "atention"}, "did you mean attention"),
        ({"mixer": "no/file.py:Own"}, "no file no/file.py"), ({"mlp": "none", "n_experts": 2}, "leave out"),
        ({"capacity_factor": 0.5}, "capacity_factor"), ({"aux_loss_weight": -1.0}, "aux_loss_weight"),
    ],
)  # fmt: skip
def test_impossible_models_are_refused_by_name(bad: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        ModelConfig(**bad)


@pytest.mark.parametrize(("switch", "word"), [("positions", "sinusoidal"), ("norm", "batch"), ("mlp", "relu")])
def test_unknown_words_are_refused_with_the_known_ones(switch: str, word: str) -> None:
    config = ModelConfig()
    object.__setattr__(config, switch, word)  # past the type checker, which is on in tests only
    with pytest.raises(UserError, match=f"{switch}='{word}' is unknown; choose one of"):
        config.__post_init__()


def test_context_is_a_limit_only_where_there_is_a_table() -> None:
    long = torch.zeros(1, 9, dtype=torch.long)
    assert build(ModelConfig(1, 1, 8, max_seq_len=8), V, 0)(long).shape == (1, 9, V)
    with pytest.raises(UserError, match="max_seq_len=8"):
        build(ModelConfig(1, 1, 8, max_seq_len=8, positions="learned"), V, 0)(long)
