"""Mixture of experts: routing and capacity against a plain loop, the balance loss, what it costs, and training."""

from dataclasses import replace

import pytest
import torch

from lm.config import ModelConfig
from lm.hf.convert_weights import to_transformers
from lm.layers.mlp import PlainMLP
from lm.layers.moe import MixtureOfExperts
from lm.model import build
from lm.model_size import count_parameters, flops_per_token
from lm.training.loop import train
from lm.training.step import Objective
from synth.errors import UserError
from synth.identity import digest
from tests.lm.training.test_loop import CONFIG, TASK

CONFIGS = [
    ModelConfig(1, 1, 8, n_experts=4, d_ff=8),
    ModelConfig(1, 1, 8, n_experts=5, top_k=2, mlp="swiglu", capacity_factor=1.0),
    ModelConfig(1, 1, 8, n_experts=3, top_k=3, mlp="silu", capacity_factor=1.5),
]


def make(config: ModelConfig) -> MixtureOfExperts:
    torch.manual_seed(0)
    module = MixtureOfExperts(config)
    torch.nn.init.normal_(module.router.weight)
    return module


def by_loop(module: MixtureOfExperts, x: torch.Tensor, factor: float) -> torch.Tensor:
    """The definition: choices in order of rank, then of token; an expert that is full takes no more."""
    config, shares = module.config, module.router(x).softmax(-1)
    weights, chosen = shares.topk(config.top_k)
    weights = weights if config.top_k == 1 else weights / weights.sum(-1, keepdim=True)
    most, taken = -(-factor * len(x) * config.top_k // config.n_experts), [0] * config.n_experts
    out = torch.zeros_like(x)
    for k in range(config.top_k):
        for i, row in enumerate(x):
            expert = int(chosen[i, k])
            if taken[expert] < most:
                taken[expert] += 1
                out[i] += weights[i, k] * module.experts[expert](row)
    return out


@pytest.mark.parametrize("config", CONFIGS, ids=["top1", "top2", "all"])
@pytest.mark.parametrize("training", [True, False])
def test_routing_is_the_plain_loop(config: ModelConfig, training: bool) -> None:
    module, x = make(config).train(training), torch.randn(2, 15, 8)
    expected = by_loop(module, x.flatten(0, 1), config.capacity_factor if training else config.eval_capacity_factor)
    torch.testing.assert_close(module(x).flatten(0, 1), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=["top1", "top2", "all"])
def test_shapes_that_no_datum_decides_give_the_same(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a compiler sees: every expert with all its places."""
    module, x = make(config), torch.randn(30, 8)
    plain = module(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(module(x), plain, rtol=1e-4, atol=1e-6)


def test_a_full_expert_leaves_the_later_tokens_out() -> None:
    module = make(ModelConfig(1, 1, 8, n_experts=4, d_ff=8))
    with torch.no_grad():
        module.router.weight.zero_()[2] = 1.0  # all positive tokens go to expert 2
    x = torch.rand(12, 8)
    out = module.train()(x)
    assert (out[:6].abs().sum(1) > 0).all() and (out[6:] == 0).all()  # capacity 2: a half of the tokens
    assert (module.eval()(x).abs().sum(1) > 0).all()


def test_no_token_sees_its_future_even_where_experts_are_full() -> None:
    module, x = make(ModelConfig(1, 1, 8, n_experts=4, d_ff=8, capacity_factor=1.0)), torch.randn(1, 20, 8)
    other = torch.cat([x[:, :10], torch.randn(1, 10, 8)], 1)
    torch.testing.assert_close(module(x)[:, :10], module(other)[:, :10])


def test_the_balance_loss_is_least_when_the_load_is_even() -> None:
    module = make(replace(CONFIGS[0], aux_loss_weight=0.5))
    charged: list[torch.Tensor] = []
    even = torch.eye(4, 8).repeat(5, 1)
    with torch.no_grad():
        module.router.weight.copy_(50 * torch.eye(4, 8))
        module(even, charged)
        module(even[:1].repeat(20, 1), charged)
    assert charged[0].item() == pytest.approx(0.5, abs=1e-6)  # balance times 1
    assert charged[1].item() == pytest.approx(0.5 * 4, abs=1e-6)  # balance times the number of experts


def test_the_objective_holds_the_cost_of_every_layer_per_target() -> None:
    config = ModelConfig(2, 2, 16, n_experts=4, d_ff=16, aux_loss_weight=0.0)
    inputs, targets = torch.randint(7, (2, 3, 9))
    targets[0] = -100
    free, charged = (build(replace(config, aux_loss_weight=b), 7, 0) for b in (0.0, 0.3))
    aux_losses: list[torch.Tensor] = []
    with torch.no_grad():
        charged(inputs, aux_losses=aux_losses)
        gap = Objective(charged)(inputs, targets, None) - Objective(free)(inputs, targets, None)
    assert len(aux_losses) == 2 and all(0.3 <= float(cost) < 0.3 * 4 for cost in aux_losses)
    assert float(gap) == pytest.approx(18 * float(sum(aux_losses)), rel=1e-4)


def test_the_paper_s_mixture_has_eleven_times_fewer_active_parameters() -> None:
    """Part 3.3, result 9: attention 4 d^2, 32 experts of 2 d^2, one of them active: 6 of 68, 8.8%."""
    with torch.device("meta"):
        counts = count_parameters(build_meta(ModelConfig(2, 8, 512, n_experts=32, d_ff=512)))
        none = count_parameters(build_meta(ModelConfig(2, 8, 512, mlp="none")))
    experts = counts["total"] - none["total"] - 2 * (32 * 512 + 2 * 512)  # less router and norm
    active = counts["active"] - none["total"] - 2 * (32 * 512 + 2 * 512)
    assert experts == 32 * active == 2 * 32 * (2 * 512**2 + 2 * 512)
    non_embedding = counts["non_embedding"]
    share = (non_embedding - counts["total"] + counts["active"]) / non_embedding
    assert share == pytest.approx(6 / 68, rel=0.02)


def build_meta(config: ModelConfig):
    from lm.model import Decoder

    return Decoder(config, 100)


def test_flops_count_what_a_token_meets() -> None:
    one, many = ModelConfig(2, 2, 16, d_ff=16), ModelConfig(2, 2, 16, d_ff=16, n_experts=8)
    router = 2 * 8 * 16
    assert flops_per_token(many, 7, 32) == flops_per_token(one, 7, 32) + 6 * router
    two = flops_per_token(replace(many, top_k=2), 7, 32) - flops_per_token(many, 7, 32)
    assert two == 6 * 2 * (2 * 16 * 16)


def test_training_uses_all_experts_and_learns() -> None:
    net = build(ModelConfig(2, 2, 16, n_experts=4, d_ff=16), TASK.vocab().size, 0)
    history = train(net, TASK, replace(CONFIG, steps=150), 0, log_every=50)
    assert history[-1]["loss"] < 0.6
    sent: list[torch.Tensor] = []
    with torch.no_grad():
        net.eval()(torch.randint(1, 6, (8, 32)), aux_losses=sent)
    assert all(float(cost) < 2 * 0.01 for cost in sent), "the load is far from even"


def test_one_expert_of_one_is_the_plain_mlp() -> None:
    module = make(ModelConfig(1, 1, 8, n_experts=1))
    assert isinstance(module.experts[0], PlainMLP)
    x = torch.randn(5, 8)
    torch.testing.assert_close(module(x), module.experts[0](x))


def test_what_has_no_place_in_transformers_is_named() -> None:
    with pytest.raises(UserError, match="experts=2"):
        to_transformers(build(ModelConfig.gpt2(1, 1, 8, n_experts=2), 7, 0))
    with pytest.raises(UserError, match="mlp='silu'"):
        to_transformers(build(ModelConfig.gpt2(1, 1, 8, mlp="silu"), 7, 0))


def test_older_configurations_keep_their_identity() -> None:
    """The digest of the default model, from before these switches existed."""
    assert digest(ModelConfig(2, 3, 24), 6) == "bc8172f5c673"
