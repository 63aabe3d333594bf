"""Moving models: to and from transformers, and to and from disk."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch

from lm.config import ModelConfig
from lm.hf.convert_weights import from_transformers, to_transformers
from lm.hf.modeling import PhysForCausalLM
from lm.inference.sampling import generate
from lm.model import build
from lm.pretrained import load, save
from synth import get_task
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
    for temperature in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="temperature"):
            generate(model, [[0]], 1, temperature=temperature)
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


@pytest.mark.parametrize(("flavour", "changes"), CASES.values(), ids=CASES)
def test_new_models_of_transformers_have_initial_weights(flavour: str, changes: dict) -> None:
    from transformers import AutoModelForCausalLM

    import lm.hf

    architecture = asdict(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, **changes))
    config = lm.hf.PhysConfig(architecture, V)
    torch.manual_seed(3)
    first = AutoModelForCausalLM.from_config(config)
    torch.manual_seed(3)
    again, other = AutoModelForCausalLM.from_config(config), AutoModelForCausalLM.from_config(config)
    assert torch.equal(first(INPUTS).logits, again(INPUTS).logits) and first(INPUTS).logits.isfinite().all()
    assert not torch.equal(first(INPUTS).logits, other(INPUTS).logits)
    assert first.decoder.embed.weight.std() < 0.03  # init_std .02, and not torch's 1


def test_weights_that_a_file_lacks_are_initial_ones(tmp_path: Path) -> None:
    import safetensors.torch
    from transformers import AutoModelForCausalLM

    ours = lively(ModelConfig.gpt2(2, 4, 32, max_seq_len=24, canon="ABCD"))
    save(ours, tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    gone = "decoder.blocks.1.mixer.qkv.weight"
    del weights[gone]
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    assert 0.01 < theirs[gone].std() < 0.03
    assert all(torch.equal(theirs[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("name", ["rotary-gpt2", "learned-llama", "canon", "gdn", "experts"])
def test_the_wrapper_gives_what_it_is_asked_for(name: str) -> None:
    flavour, changes = CASES[name]
    ours = lively(getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, **changes)).eval()
    theirs = PhysForCausalLM.wrap(ours)
    made = theirs(INPUTS, output_hidden_states=True)
    assert len(made.hidden_states) == 3 and made.attentions is None
    torch.testing.assert_close(made.logits, ours(INPUTS), rtol=1e-4, atol=1e-4)
    table = ours.embed.weight if ours.config.tie_embeddings else ours.head.weight
    torch.testing.assert_close(made.hidden_states[-1] @ table.T, made.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs(INPUTS, return_dict=False)[0], made.logits, rtol=1e-4, atol=1e-4)
    by_embeddings = theirs(inputs_embeds=ours.embed(INPUTS))
    torch.testing.assert_close(by_embeddings.logits, made.logits, rtol=1e-4, atol=1e-4)
    if name == "gdn":
        with pytest.raises(UserError, match="mixer=gdn has no attention weights"):
            theirs(INPUTS, output_attentions=True)
    else:
        weights = theirs(INPUTS, output_attentions=True).attentions
        assert len(weights) == 2 and weights[0].shape == (2, 3, 20, 20)
        torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 3, 20))


def test_hidden_states_are_those_of_transformers() -> None:
    ours = lively(ModelConfig.gpt2(2, 4, 32, max_seq_len=24)).eval()
    asked = {"output_hidden_states": True, "output_attentions": True}
    theirs = to_transformers(ours)
    theirs.set_attn_implementation("eager")
    expected, made = theirs(INPUTS, **asked), PhysForCausalLM.wrap(ours)(INPUTS, **asked)
    for name in ("hidden_states", "attentions"):
        for mine, other in zip(made[name], expected[name], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"use_cache": True}, "no cache"),
        ({"past_key_values": ()}, "no cache"),
        ({"position_ids": torch.arange(1, 21)[None]}, "position_ids"),
        ({"attention_mask": torch.tensor([[1] * 5 + [0] + [1] * 14] * 2)}, "hole"),
        ({"attention_mask": torch.zeros(2, 1, 20, 20)}, "shape"),
        ({"inputs_embeds": torch.zeros(2, 20, 32)}, "either"),
    ],
)
def test_what_the_wrapper_cannot_do_is_refused(asked: dict, named: str) -> None:
    theirs = PhysForCausalLM.wrap(lively(GPT2))
    with pytest.raises(UserError, match=named):
        theirs(INPUTS, **asked)
    with pytest.raises(TypeError, match="atention_mask"):
        theirs(INPUTS, atention_mask=torch.ones_like(INPUTS))
    assert theirs(INPUTS, position_ids=torch.arange(20)[None]).logits.shape == (2, 20, V)


@pytest.mark.parametrize("tied", [True, False])
def test_a_resized_vocabulary_is_saved_and_read(tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = PhysForCausalLM.wrap(lively(ModelConfig.gpt2(2, 4, 32, max_seq_len=24, tie_embeddings=tied)))
    before = theirs(INPUTS).logits
    theirs.resize_token_embeddings(V + 3)
    after = theirs(INPUTS).logits
    assert after.shape[-1] == V + 3
    torch.testing.assert_close(after[..., :V], before)
    theirs.save_pretrained(tmp_path / "theirs")
    save(theirs.decoder, tmp_path / "ours")
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")(INPUTS).logits, after)
    torch.testing.assert_close(load(tmp_path / "ours")(INPUTS), after, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_checkpointed_activations_give_the_same_gradients() -> None:
    ours = lively(ModelConfig.gpt2(3, 4, 32, max_seq_len=24))
    theirs = PhysForCausalLM.wrap(ours).train()
    theirs(INPUTS, labels=INPUTS).loss.backward()
    expected = {name: p.grad.clone() for name, p in ours.named_parameters()}
    ours.zero_grad()
    theirs.gradient_checkpointing_enable()
    assert theirs.is_gradient_checkpointing and ours.checkpoint_activations
    theirs(INPUTS, labels=INPUTS).loss.backward()
    for name, p in ours.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-6)
    theirs.gradient_checkpointing_disable()
    assert not ours.checkpoint_activations


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_prompt_tuning_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is an extra (adapt)")
    theirs = PhysForCausalLM.wrap(lively(GPT2))
    tuned = peft.get_peft_model(theirs, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    loss = tuned(input_ids=INPUTS, labels=INPUTS).loss
    loss.backward()
    assert loss.isfinite() and any(p.grad is not None and p.grad.abs().sum() > 0 for p in tuned.parameters())
    mask = torch.ones_like(INPUTS[:, :5])
    assert tuned.generate(input_ids=INPUTS[:, :5], attention_mask=mask, max_new_tokens=4, do_sample=False).shape[0] == 2


@pytest.mark.parametrize("name", ["GPT2Model", "GPT2ForSequenceClassification", "LlamaModel", "OPTForCausalLM"])
def test_other_classes_than_language_models_are_refused(name: str) -> None:
    import transformers

    cls = getattr(transformers, name)
    size = {"vocab_size": 7, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 0}
    small = {"bos_token_id": 0, "eos_token_id": 1, **size}
    with pytest.raises(UserError, match=f"a {name} of transformers cannot be read; give a GPT2LMHeadModel or Llama"):
        from_transformers(cls(cls.config_class(**small)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, as it loads its compiler
def test_a_compiled_model_is_saved_as_what_was_compiled(tmp_path: Path) -> None:
    ours = lively(GPT2)
    save(torch.compile(ours), tmp_path)
    assert torch.equal(load(tmp_path)(INPUTS), ours(INPUTS))


def _adapt(model: torch.nn.Module) -> None:
    pytest.importorskip("peft", reason="peft is an extra (adapt)")
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(target_modules=["qkv"], r=2), model)


def _prune(model: torch.nn.Module) -> None:
    torch.nn.utils.prune.l1_unstructured(model.blocks[0].mlp.up, "weight", 0.5)


def _resize(model: torch.nn.Module) -> None:
    model.embed = torch.nn.Embedding(V + 2, 32)


def _diverge(model: torch.nn.Module) -> None:
    model.blocks[1].mlp.up.weight.data[0, 0] = torch.nan


BROKEN = {
    "adapters": (_adapt, "a tensor blocks.0.mixer.qkv.base_layer.weight"),
    "pruned": (_prune, "a tensor blocks.0.mlp.up.weight_orig"),
    "weight norm": (lambda m: torch.nn.utils.parametrizations.weight_norm(m.blocks[0].mlp.up), "parametrizations"),
    "resized": (_resize, "embed.weight has the shape"),
    "NaN": (_diverge, "blocks.1.mlp.up.weight holds NaN"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_could_not_be_read_is_not_written_over_a_good_model(case: str, tmp_path: Path) -> None:
    from torch.nn.utils import prune  # noqa: F401  # makes torch.nn.utils.prune

    save(lively(GPT2), tmp_path)
    good = load(tmp_path)(INPUTS)
    spoil, message = BROKEN[case]
    model = lively(GPT2, seed=1)
    spoil(model)
    with pytest.raises(UserError, match=message):
        save(model, tmp_path)
    assert torch.equal(load(tmp_path)(INPUTS), good)


def test_a_pipeline_of_transformers_reads_the_folder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, pipeline

    import lm.hf  # noqa: F401

    task = get_task("brackets")
    vocab = task.vocab()
    save(build(ModelConfig.gpt2(1, 2, 16, max_seq_len=64), vocab.size, 0), tmp_path, task)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("( A + B ) <eos>").input_ids == vocab.encode("<bos> ( A + B ) <eos>".split()).tolist()
    assert tokenizer.decode(vocab.encode(["(", "A"])) == " ( A"
    padded = tokenizer(["( A + B )", "A"], padding=True)
    assert padded.input_ids[1][:4] == [vocab.pad] * 4 and padded.attention_mask[1] == [0] * 4 + [1] * 2
    with pytest.raises(Exception, match="WordLevel error"):
        tokenizer("( Q")
    write = pipeline("text-generation", model=str(tmp_path))
    text = write("( A", max_new_tokens=5, do_sample=False)[0]["generated_text"]
    assert text.startswith("( A") and set(text.split()) <= set(vocab.names)
    assert "brackets" in (tmp_path / "README.md").read_text() and load(tmp_path).vocab_size == vocab.size
