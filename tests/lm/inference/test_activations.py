"""Named activations: they are what the model computes, whatever the company, ours and those of transformers."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from lm.config import ModelConfig
from lm.hf.convert_weights import to_transformers
from lm.inference.activations import activation_names, iter_activations
from lm.layers.context import SequenceContext
from lm.model import Decoder
from synth.errors import UserError
from tests.contracts.test_model_contract import CASES, T, V, lively

DOCUMENTS = [np.random.default_rng(i).integers(0, V, length) for i, length in enumerate((9, 24, 3, 9, 17))]


ATTENTION = {name: case for name, case in CASES.items() if "mixer" not in case[1]}


@pytest.fixture(params=CASES.values(), ids=CASES)
def model(request: pytest.FixtureRequest) -> Decoder:
    flavour, changes = request.param
    return lively(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, **changes)).eval()


def values(model: Decoder, mixer: nn.Module, x: torch.Tensor, context: SequenceContext) -> torch.Tensor:
    """(B, H, T, d): the last third of a fused projection, after Canon, or a projection of their own."""
    if hasattr(mixer, "project_heads"):
        return mixer.split(mixer.project_heads(x, context), context)[2]
    v = mixer.value(x) if hasattr(mixer, "value") else mixer.qkv(x).chunk(3, -1)[2]
    return v.unflatten(-1, (model.config.n_heads, -1)).transpose(1, 2)


@torch.inference_mode()
@pytest.mark.parametrize("model", ATTENTION.values(), ids=ATTENTION, indirect=True)
@pytest.mark.parametrize("isolated", [False, True])
def test_weights_times_values_are_what_the_mixer_gives(model: Decoder, isolated: bool) -> None:
    documents = (torch.arange(T) // 7).expand(3, T) if isolated else None
    x = torch.randn(3, T, 24, generator=torch.Generator().manual_seed(0))
    context = model.make_context(T, documents)
    mixer = model.blocks[1].mixer
    weights = mixer.weights(x, context)
    assert weights.shape == (3, 3, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 3, T))
    assert (weights * ~context.visible == 0).all()
    mixed = (weights @ values(model, mixer, x, context)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixer.out(mixed), mixer(x, context), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_stream_is_the_sum_of_what_is_added(model: Decoder) -> None:
    for batch in iter_activations(model, DOCUMENTS, ["embed", "block.*", "block.*.*", "final"]):
        stream = batch["embed"]
        for i in range(2):
            stream = stream + batch[f"block.{i}.attn"] + batch.tensors.get(f"block.{i}.mlp", 0)
            torch.testing.assert_close(stream, batch[f"block.{i}"])
        torch.testing.assert_close(model.norm(stream), batch["final"])
        if model.config.mixer == "attention":  # nothing else has weights
            assert batch[f"block.{i}.weights"].shape == (len(batch.rows), 3, stream.shape[1], stream.shape[1])
        else:
            assert f"block.{i}.weights" not in batch.tensors


def test_a_document_does_not_depend_on_its_batch() -> None:
    model = lively(ModelConfig(2, 3, 24))
    asked = ["block.1", "block.0.weights"]
    for most in (1, 40_000, 1 << 25):
        seen = []
        for batch in iter_activations(model, DOCUMENTS, asked, most):
            for r, (i, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
                assert length == len(DOCUMENTS[i])
                alone = next(iter_activations(model, [DOCUMENTS[i]], asked))
                torch.testing.assert_close(batch["block.1"][r, :length], alone["block.1"][0])
                torch.testing.assert_close(batch["block.0.weights"][r, :, :length, :length], alone[asked[1]][0])
            seen += list(batch.rows)
        assert sorted(seen) == list(range(len(DOCUMENTS)))
    assert len(list(iter_activations(model, DOCUMENTS, "final", 1))) == len(DOCUMENTS)


def test_the_model_is_left_as_it_was() -> None:
    model = lively(ModelConfig(2, 3, 24)).train()
    hidden = next(iter_activations(model, DOCUMENTS, "block.1"))["block.1"]
    assert model.training and not hidden.requires_grad
    assert not any(module._forward_hooks for module in model.modules())
    assert list(iter_activations(model, [], "embed")) == []


def test_patterns_stop_at_dots() -> None:
    model = lively(ModelConfig(2, 3, 24))
    assert set(next(iter_activations(model, DOCUMENTS, "block.*")).tensors) == {"block.0", "block.1"}
    assert set(next(iter_activations(model, DOCUMENTS, "block.1.*")).tensors) == {
        "block.1.attn",
        "block.1.mlp",
        "block.1.weights",
    }
    assert (
        activation_names(model)[:3] == ("embed", "block.0.attn", "block.0.mlp")
        and activation_names(model)[-1] == "final"
    )


@pytest.mark.parametrize(
    ("documents", "wanted", "message"),
    [
        (DOCUMENTS, "block.2", "^no activation is called 'block.2'; there are: embed, block.0.attn, .*, final$"),
        (DOCUMENTS, ["embed", "blocks.*"], "'blocks.*'; there are"),
        ([np.array([1, 2]), np.array([], np.int64)], "embed", "^document 1 is empty"),
        ([np.array([1, V])], "embed", f"^document 0 has tokens from 1 to {V} and the model knows 0 to {V - 1};"),
        ([np.zeros(33, np.int64)], "embed", "^33 tokens do not fit max_seq_len=32"),
    ],
)
def test_bad_input_is_one_line(documents: list, wanted: str | list[str], message: str) -> None:
    model = lively(ModelConfig.gpt2(2, 3, 24, max_seq_len=32))
    with pytest.raises(UserError, match=message) as raised:
        iter_activations(model, documents, wanted)
    assert "\n" not in str(raised.value)


def test_a_foreign_module_is_refused() -> None:
    with pytest.raises(UserError, match="Linear shows no activations"):
        activation_names(nn.Linear(2, 2))


@pytest.mark.parametrize("flavour", ["gpt2", "llama"])
def test_transformers_has_the_same_names_and_numbers(flavour: str) -> None:
    ours = lively(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32))
    theirs = to_transformers(ours)
    assert activation_names(theirs) == activation_names(ours)
    everything = ["embed", "block.*", "block.*.*", "final"]
    for a, b in zip(
        iter_activations(ours, DOCUMENTS, everything), iter_activations(theirs, DOCUMENTS, everything), strict=True
    ):
        for (r, length), name in product(enumerate(a.lengths), activation_names(ours)):
            cut = (r, slice(None), slice(length), slice(length)) if name.endswith("weights") else (r, slice(length))
            torch.testing.assert_close(b[name][cut], a[name][cut], rtol=1e-4, atol=1e-4)
    assert theirs.config._attn_implementation != "eager"
    with pytest.raises(UserError, match="33 tokens do not fit the 32 positions"):
        iter_activations(theirs, [np.zeros(33, np.int64)], "embed")


def test_our_models_in_the_clothes_of_transformers() -> None:
    from lm.hf.modeling import PhysForCausalLM

    ours = lively(ModelConfig(2, 3, 24))
    a, b = (next(iter_activations(m, DOCUMENTS, "block.1")) for m in (ours, PhysForCausalLM.wrap(ours)))
    assert torch.equal(a["block.1"], b["block.1"])


def test_what_is_not_added_as_it_is_has_no_name() -> None:
    """Gemma 2 norms what its halves give before it adds it; NeoX adds both halves side by side."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

    small = {"vocab_size": V, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    small |= {"num_attention_heads": 3, "num_key_value_heads": 3, "pad_token_id": 0}
    stream = {"embed", "block.0", "block.1", "block.0.weights", "block.1.weights", "final"}
    assert set(activation_names(Gemma2ForCausalLM(Gemma2Config(**small)))) == stream
    halves = {f"block.{i}.{half}" for i in (0, 1) for half in ("attn", "mlp")}
    assert set(activation_names(GPTNeoXForCausalLM(GPTNeoXConfig(**small)))) == stream | halves


@pytest.mark.parametrize("positions", ["learned", "rotary", "relative"])
def test_an_encoder_does_not_see_the_padding_of_shorter_documents(positions: str) -> None:
    config = ModelConfig(2, 3, 24, max_seq_len=32, positions=positions, causal=False)  # type: ignore[arg-type]
    encoder = lively(config).eval()
    together = {row: part for row, part in per_document(encoder, DOCUMENTS)}
    for i, document in enumerate(DOCUMENTS):
        ((_, alone),) = per_document(encoder, [document])
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)


def per_document(model: Decoder, documents: list[np.ndarray]):
    """The number of each document and its last block's output (T, D)."""
    for found in iter_activations(model, documents, "block.1"):
        for row, length, states in zip(found.rows, found.lengths, found.tensors["block.1"], strict=True):
            yield int(row), states[:length].clone()
