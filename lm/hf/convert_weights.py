"""Weights to and from GPT2LMHeadModel and LlamaForCausalLM of transformers; logits agree to rounding."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lm.config import ModelConfig
from lm.model import EPSILON, Decoder, meta_model
from synth.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Weights = dict[str, Tensor]


def to_transformers(model: Decoder) -> "PreTrainedModel":
    """The model as transformers' GPT2LMHeadModel (learned positions) or LlamaForCausalLM (rotary), on the CPU, in eval
    mode. Raises UserError that names a switch which that class does not have.
    """
    flavour = "gpt2" if model.config.positions == "learned" else "llama"
    _require(model.config, flavour)
    make, rename = (_gpt2_model, _gpt2_names) if flavour == "gpt2" else (_llama_model, _llama_names)
    theirs = make(model.config, model.vocab_size)
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(_to_their_names(weights, rename(model.config)), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    theirs.tie_weights()
    return theirs.eval()


def from_transformers(theirs: "PreTrainedModel") -> Decoder:
    """Our decoder with the weights of a GPT2LMHeadModel or LlamaForCausalLM.

    Raises UserError for another class, or for a setting of its config that we do not build.
    """
    kind = theirs.config.model_type
    if type(theirs).__name__ not in READABLE:
        raise UserError(f"a {type(theirs).__name__} of transformers cannot be read; give a {' or '.join(READABLE)}")
    config = (_gpt2_config if kind == "gpt2" else _llama_config)(theirs.config)
    rename = (_gpt2_names if kind == "gpt2" else _llama_names)(config)
    model = meta_model(config, theirs.config.vocab_size)
    weights = {name: tensor.detach().cpu().float() for name, tensor in theirs.state_dict().items()}
    model.load_state_dict(_to_our_names(weights, rename), assign=True)
    return model.requires_grad_(True)


READABLE = ("GPT2LMHeadModel", "LlamaForCausalLM")
REQUIRED_BY_BOTH = {"causal": True, "mixer": "attention", "n_experts": 0, "canon": "", "qk_norm": False}
REQUIRED: dict[str, dict[str, Any]] = {
    "gpt2": REQUIRED_BY_BOTH | {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True},
    "llama": REQUIRED_BY_BOTH
    | {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "rotary_fraction": 1.0, "rotary_heads": 1.0},
}


def _require(config: ModelConfig, flavour: str) -> None:
    for switch, value in REQUIRED[flavour].items():
        if getattr(config, switch) != value:
            raise UserError(
                f"{switch}={getattr(config, switch)!r} has no place in transformers' {flavour} (it needs {value!r}); "
                "save the model with lm.save and load it through lm.hf.modeling instead"
            )


# Rows: our name, their names (several are concatenated along the output dimension), whether theirs is transposed:
# GPT-2 stores matrices as (in, out).
NameMap = list[tuple[str, tuple[str, ...], bool]]


def _gpt2_names(config: ModelConfig) -> NameMap:
    rows: NameMap = [("embed.weight", ("transformer.wte.weight",), False)]
    rows.append(("positions.weight", ("transformer.wpe.weight",), False))
    pairs = {"mixer_norm": "ln_1", "mixer.qkv": "attn.c_attn", "mixer.out": "attn.c_proj", "mlp_norm": "ln_2"}
    pairs |= {"mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}
    for layer in range(config.n_layers):
        for ours, name in pairs.items():
            for part in ("weight", "bias"):
                turned = part == "weight" and "norm" not in ours
                rows.append((f"blocks.{layer}.{ours}.{part}", (f"transformer.h.{layer}.{name}.{part}",), turned))
    rows += [(f"norm.{part}", (f"transformer.ln_f.{part}",), False) for part in ("weight", "bias")]
    return rows + ([] if config.tie_embeddings else [("head.weight", ("lm_head.weight",), False)])


def _llama_names(config: ModelConfig) -> NameMap:
    rows: NameMap = [("embed.weight", ("model.embed_tokens.weight",), False)]
    groups = {
        "mixer.qkv": tuple(f"self_attn.{x}_proj" for x in "qkv"),
        "mixer.out": ("self_attn.o_proj",),
        "mlp.up": ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down": ("mlp.down_proj",),
    }
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        rows.append((f"{ours}.mixer_norm.weight", (f"{theirs}.input_layernorm.weight",), False))
        rows.append((f"{ours}.mlp_norm.weight", (f"{theirs}.post_attention_layernorm.weight",), False))
        for name, parts in groups.items():
            for part in ("weight", "bias") if config.bias else ("weight",):
                rows.append((f"{ours}.{name}.{part}", tuple(f"{theirs}.{p}.{part}" for p in parts), False))
    rows.append(("norm.weight", ("model.norm.weight",), False))
    return rows + ([] if config.tie_embeddings else [("head.weight", ("lm_head.weight",), False)])


def _to_their_names(weights: Weights, rename: NameMap) -> Weights:
    out: Weights = {}
    for ours, theirs, turned in rename:
        parts = weights[ours].chunk(len(theirs), 0)
        out |= {name: part.T if turned else part for name, part in zip(theirs, parts, strict=True)}
    return out


def _to_our_names(weights: Weights, rename: NameMap) -> Weights:
    def one(theirs: tuple[str, ...], turned: bool) -> Tensor:
        joined = torch.cat([weights[name] for name in theirs])
        return (joined.T if turned else joined).contiguous().clone()

    return {ours: one(theirs, turned) for ours, theirs, turned in rename}


def _gpt2_model(config: ModelConfig, vocab_size: int) -> "PreTrainedModel":
    from transformers import GPT2Config, GPT2LMHeadModel

    return _keep_rng_state(
        lambda: GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab_size, n_positions=config.max_seq_len, n_embd=config.d_model, n_layer=config.n_layers,
                n_head=config.n_heads, n_inner=config.mlp_hidden_dim, tie_word_embeddings=config.tie_embeddings,
                activation_function="gelu_new", layer_norm_epsilon=EPSILON["layer"],
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=None,
            )
        )
    )  # fmt: skip


def _llama_model(config: ModelConfig, vocab_size: int) -> "PreTrainedModel":
    from transformers import LlamaConfig, LlamaForCausalLM

    return _keep_rng_state(
        lambda: LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab_size, hidden_size=config.d_model, intermediate_size=config.mlp_hidden_dim,
                num_hidden_layers=config.n_layers, num_attention_heads=config.n_heads,
                num_key_value_heads=config.n_heads, max_position_embeddings=config.max_seq_len,
                rms_norm_eps=EPSILON["rms"], tie_word_embeddings=config.tie_embeddings,
                rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
                attention_bias=config.bias, mlp_bias=config.bias, bos_token_id=0, eos_token_id=None,
            )
        )
    )  # fmt: skip


def _keep_rng_state(make: Callable[[], Any]) -> Any:
    """Build without advancing the global random state: transformers draws weights that are then replaced."""
    with torch.random.fork_rng(devices=[]):
        return make()


def _gpt2_config(theirs: Any) -> ModelConfig:
    if theirs.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        raise UserError(f"activation_function={theirs.activation_function!r} is not built; only gelu_new is")
    if theirs.layer_norm_epsilon != EPSILON["layer"]:
        raise UserError(f"layer_norm_epsilon={theirs.layer_norm_epsilon} is not built; only {EPSILON['layer']} is")
    for switch, value in {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}.items():
        if getattr(theirs, switch) != value:
            raise UserError(f"{switch}={not value} is not built; only {value} is")
    hidden = theirs.n_inner if theirs.n_inner != 4 * theirs.n_embd else None
    return ModelConfig.gpt2(
        theirs.n_layer, theirs.n_head, theirs.n_embd, max_seq_len=theirs.n_positions, d_ff=hidden,
        tie_embeddings=theirs.tie_word_embeddings,
    )  # fmt: skip


def _llama_config(theirs: Any) -> ModelConfig:
    rope = theirs.rope_parameters
    needed = {
        "num_key_value_heads": theirs.num_attention_heads, "hidden_act": "silu", "mlp_bias": theirs.attention_bias,
        "head_dim": theirs.hidden_size // theirs.num_attention_heads, "rms_norm_eps": EPSILON["rms"],
    }  # fmt: skip
    for switch, value in needed.items():
        if getattr(theirs, switch) != value:
            raise UserError(f"{switch}={getattr(theirs, switch)!r} is not built; only {value!r} is")
    if rope.get("rope_type", "default") != "default":
        raise UserError(f"rope_type={rope['rope_type']!r} is not built; only 'default' is")
    hidden = theirs.intermediate_size if theirs.intermediate_size != 8 * theirs.hidden_size // 3 else None
    return ModelConfig.llama(
        theirs.num_hidden_layers, theirs.num_attention_heads, theirs.hidden_size,
        max_seq_len=theirs.max_position_embeddings, d_ff=hidden, bias=theirs.attention_bias,
        tie_embeddings=theirs.tie_word_embeddings, rotary_base=rope["rope_theta"],
    )  # fmt: skip
