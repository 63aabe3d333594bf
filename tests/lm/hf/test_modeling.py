"""Moving models: to and from transformers, and to and from disk."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.hf.convert_weights import from_transformers, to_transformers
from lm.hf.modeling import PhysForCausalLM
from lm.inference.sampling import generate
from lm.pretrained import load, save
from synth.errors import UserError
from synth.identity import identity_name
from tests.contracts.test_model_contract import CASES, V, lively

INPUTS = torch.randint(V, (2, 20), generator=torch.Generator().manual_seed(0))
GPT2 = ModelConfig.gpt2(2, 4, 32, max_seq_len=24)
LLAMA = ModelConfig.llama(2, 4, 32, max_seq_len=24)
FLAVOURS: list[tuple[str, dict]] = [
    ("gpt2", {}),
    ("gpt2", {"tie_embeddings": False, "d_ff": 40}),
    ("llama", {}),
    ("llama", {"tie_embeddings": True, "bias": True}),
]


@pytest.mark.parametrize(("flavour", "changes"), FLAVOURS)
def test_logits_agree_in_both_directions(flavour: str, changes: dict) -> None:
    ours = lively(getattr(ModelConfig, flavour)(2, 4, 32, max_seq_len=24, **changes))
    theirs = to_transformers(ours)
    torch.testing.assert_close(theirs(INPUTS).logits, ours(INPUTS), rtol=1e-5, atol=1e-5)
    back = from_transformers(theirs)
    assert back.config == ours.config
    torch.testing.assert_close(back(INPUTS), ours(INPUTS), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (ModelConfig.gpt2(1, 2, 8, norm="rms"), "norm"),
        (ModelConfig.gpt2(1, 2, 8, bias=False), "bias"),
        (ModelConfig.llama(1, 2, 8, positions="none"), "positions"),
        (ModelConfig.llama(1, 2, 8, rotary_fraction=0.5), "rotary_fraction"),
        (ModelConfig(1, 2, 8), "norm"),
    ],
)
def test_what_transformers_has_no_place_for_is_named(config: ModelConfig, named: str) -> None:
    with pytest.raises(UserError, match=f"^{named}="):
        to_transformers(lively(config))


def test_settings_we_do_not_build_are_named() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    small = {"vocab_size": 7, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1}
    with pytest.raises(UserError, match="activation_function"):
        from_transformers(GPT2LMHeadModel(GPT2Config(**small, activation_function="relu")))


@pytest.mark.parametrize(("flavour", "changes"), CASES.values(), ids=CASES)
def test_any_model_lives_in_transformers(flavour: str, changes: dict, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    import lm.hf  # noqa: F401

    ours = lively(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, **changes)).eval()
    save(ours, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(theirs(INPUTS).logits, ours(INPUTS))
    greedy = theirs.generate(INPUTS, attention_mask=torch.ones_like(INPUTS), max_new_tokens=6, do_sample=False)
    ours_greedy = np.stack(generate(ours, INPUTS.numpy(), 6, temperature=0.0))
    np.testing.assert_array_equal(greedy[:, 20:].numpy(), ours_greedy)
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), INPUTS], 1)
    mask = torch.cat([torch.zeros(2, 3, dtype=torch.long), torch.ones_like(INPUTS)], 1)
    torch.testing.assert_close(theirs(padded, mask).logits[:, 3:], ours(INPUTS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("flavour", "changes"), CASES.values(), ids=CASES)
def test_files_are_those_of_transformers(flavour: str, changes: dict, tmp_path: Path) -> None:
    ours = lively(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, **changes))
    save(ours, tmp_path / "ours")
    PhysForCausalLM.wrap(ours).save_pretrained(tmp_path / "theirs")
    written = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert written == sorted(path.name for path in (tmp_path / "ours").iterdir() if path.name != "reference.json")
    for name in written:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "reference.json"])
@pytest.mark.parametrize("damage", ["cut", "altered", "missing"])
def test_damaged_models_are_named(tmp_path: Path, name: str, damage: str) -> None:
    save(lively(GPT2), tmp_path)
    data, middle = (tmp_path / name).read_bytes(), (tmp_path / name).stat().st_size // 2
    if damage == "missing":
        (tmp_path / name).unlink()
    elif damage == "cut":
        (tmp_path / name).write_bytes(data[:middle])
    else:
        (tmp_path / name).write_bytes(data[:middle] + bytes([data[middle] ^ 2]) + data[middle + 1 :])
    with pytest.raises(UserError, match="again|anew|then"):
        load(tmp_path)


def test_a_missing_model_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model at .*nowhere"):
        load(tmp_path / "nowhere")


def test_saving_over_an_older_model(tmp_path: Path) -> None:
    save(lively(GPT2), tmp_path / "m")
    save(lively(LLAMA), tmp_path / "m")
    assert load(tmp_path / "m").config == LLAMA


def test_generate_refuses_what_it_cannot_do() -> None:
    model = lively(GPT2)
    for prompts, named in ([[]], "no tokens"), ([[9]], "outside"), ([[0] * 20], "max_seq_len"):
        with pytest.raises(UserError, match=named):
            generate(model, prompts, 6)
    with pytest.raises(UserError, match="max_new_tokens"):
        generate(model, [[0]], 0)
    with pytest.raises(UserError, match="temperature"):
        generate(model, [[0]], 1, temperature=-1.0)
    assert generate(model, [], 5) == []


def test_samples_follow_the_model() -> None:
    model = lively(GPT2)
    draws = np.stack(generate(model, [[0]] * 4000, 1, seed=3))[:, 0]
    expected = model(torch.tensor([[0]]))[0, 0].softmax(-1).detach().numpy()
    np.testing.assert_allclose(np.bincount(draws, minlength=V) / 4000, expected, atol=0.03)


def test_models_saved_before_a_rename_are_read() -> None:
    """By the names that are the identities of fields."""
    config = ModelConfig.gpt2(1, 2, 8, tie_embeddings=False)
    before = {identity_name(f): getattr(config, f.name) for f in fields(config)}
    assert {"layers", "width", "tied"} <= before.keys() and ModelConfig.read(before, "config.json") == config
