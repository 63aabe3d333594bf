"""Encoders see both sides and nothing beyond their document; they do not do what only causal models can."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.hf.convert_weights import to_transformers
from lm.inference.sampling import generate
from lm.model import Decoder
from lm.model_size import count_parameters, flops_per_token
from lm.options import BIDIRECTIONAL
from lm.pretrained import load, save
from probing.scoring.likelihood import log_probabilities
from synth.errors import UserError
from tests.contracts.test_model_contract import T, V, lively

CASES = {f"{p}-{flavour}": (p, flavour) for p, flavour in product(BIDIRECTIONAL, ("gpt2", "llama"))}
SMALL = ModelConfig(2, 2, 16, max_seq_len=32, causal=False)


@pytest.fixture(params=CASES.values(), ids=CASES)
def model(request: pytest.FixtureRequest) -> Decoder:
    positions, flavour = request.param
    return lively(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, positions=positions, causal=False)).eval()


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


def reach(model: Decoder, inputs: torch.Tensor, documents: torch.Tensor | None, at: int) -> torch.Tensor:
    """How much the logits at one position depend on every position's embedding (T,)."""
    seen: list[torch.Tensor] = []
    original = model.embed_tokens
    model.embed_tokens = lambda *a: seen.append(original(*a).detach().requires_grad_()) or seen[-1]  # type: ignore[method-assign]
    logits = model(inputs, documents)
    assert logits.shape == (*inputs.shape, V)
    logits[:, at].square().sum().backward()
    del model.embed_tokens
    return seen[0].grad.abs().sum((0, 2))


def test_every_position_sees_both_sides(model: Decoder, inputs: torch.Tensor) -> None:
    for at in (0, 10, T - 1):
        assert (reach(model, inputs, None, at) > 0).all()


def test_a_document_sees_itself_alone(model: Decoder, inputs: torch.Tensor) -> None:
    cuts = [0, 9, 14, T]
    documents = torch.zeros_like(inputs)
    documents[:, 9:14], documents[:, 14:] = 1, 2
    seen = reach(model, inputs, documents, 10)
    assert (seen[9:14] > 0).all() and (seen[:9] == 0).all() and (seen[14:] == 0).all()
    together = model(inputs, documents)
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        torch.testing.assert_close(together[:, a:b], model(inputs[:, a:b]), rtol=1e-4, atol=1e-4)


def test_order_matters_and_company_does_not(model: Decoder, inputs: torch.Tensor) -> None:
    torch.testing.assert_close(model(inputs)[1:2], model(inputs[1:2]), rtol=1e-4, atol=1e-4)
    turned = model(inputs.flip(1)).flip(1)
    assert not torch.allclose(turned, model(inputs), rtol=1e-2, atol=1e-2), "left and right are told apart by nothing"


def test_gradient_reaches_every_parameter(model: Decoder) -> None:
    inputs = torch.randint(V, (3, 32), generator=torch.Generator().manual_seed(1))  # the context: all distances
    model(inputs).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        if name == "positions.weight":
            assert (parameter.grad.abs().sum(1) > 0).all()


def test_save_and_load(model: Decoder, inputs: torch.Tensor, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.config == model.config and not again.config.causal
    assert torch.equal(again(inputs), model(inputs))


def test_relative_encoder_is_the_written_formula() -> None:
    model = lively(ModelConfig(1, 2, 8, max_seq_len=16, positions="relative", causal=False))
    assert count_parameters(model)["embedding"] == 8 * (V + 31)
    for n in (1, 9, 16):
        mixer, x = model.blocks[0].mixer, torch.randn(1, n, 8)
        q, k, v = mixer.qkv(x)[0].view(n, 3, 2, 4).unbind(1)
        qr, kr = mixer.distance_qk(model.positions.weight).view(31, 2, 2, 4).unbind(1)
        mixed = torch.zeros(n, 2, 4)
        for i, h in product(range(n), range(2)):
            far = [i - j + 15 for j in range(n)]  # row 15 is distance 0
            scores = torch.stack(
                [q[i, h] @ k[j, h] + q[i, h] @ kr[far[j], h] + qr[far[j], h] @ k[j, h] for j in range(n)]
            )
            mixed[i, h] = (scores / (3 * 4) ** 0.5).softmax(0) @ v[:, h]
        ours = mixer(x, model.make_context(n))[0]
        torch.testing.assert_close(ours, mixer.out(mixed.flatten(1)), rtol=1e-4, atol=1e-5)


def test_weights_are_those_of_the_output() -> None:
    model = lively(ModelConfig(1, 2, 8, max_seq_len=16, positions="relative", causal=False))
    mixer, x, context = model.blocks[0].mixer, torch.randn(3, 9, 8), model.make_context(9)
    weights = mixer.weights(x, context)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 9))
    values = mixer.qkv(x)[..., 16:].view(3, 9, 2, 4).transpose(1, 2)
    torch.testing.assert_close(mixer.out((weights @ values).transpose(1, 2).flatten(2)), mixer(x, context))


def test_what_an_encoder_cannot_do_is_refused(inputs: torch.Tensor) -> None:
    model = lively(replace(SMALL, positions="learned"))
    with pytest.raises(UserError, match="causal=True"):
        generate(model, [np.array([0])], 5)
    with pytest.raises(UserError, match="likelihood.*causal=True"):
        log_probabilities(model, [np.array([0, 1, 2])])
    with pytest.raises(UserError, match="^causal=False"):
        to_transformers(model)
    with pytest.raises(UserError, match="positions=uniform needs causal=True"):
        replace(SMALL, positions="uniform")
    flops = [flops_per_token(replace(SMALL, positions="relative", causal=c), V, 32) for c in (True, False)]
    assert flops[1] - flops[0] == 3 * 4 * 2 * 16 * 32  # twice as many distances for two of four products


def test_encoders_in_transformers(inputs: torch.Tensor, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    import lm.hf  # noqa: F401

    model = lively(SMALL).eval()
    save(model, tmp_path / "model")
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    real = torch.ones_like(inputs)
    real[:, 20:] = 0
    given = theirs(inputs, attention_mask=real).logits[:, :20]
    torch.testing.assert_close(given, model(inputs[:, :20]), rtol=1e-4, atol=1e-4)
    labels = torch.full_like(inputs, -100)
    labels[0, 5] = 3
    expected = -model(inputs)[0, 5].log_softmax(-1)[3]
    torch.testing.assert_close(theirs(inputs, labels=labels).loss, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="generation needs a causal model"):
        theirs.generate(inputs, max_new_tokens=2)
