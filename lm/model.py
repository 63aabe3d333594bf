"""The one model of the suite: pre-norm blocks of a token mixer and an MLP (GPT-2, LLaMA; docs/architectures.md)."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.config import ModelConfig
from lm.initialization import init_weights
from lm.layers.cache import LayerCache
from lm.layers.canon import Canon, canon_for, empty_canon_caches
from lm.layers.context import SequenceContext
from lm.layers.document_mask import positions_and_mask
from lm.layers.mlp import AuxLosses, make_mlp
from lm.layers.moe import MixtureOfExperts
from lm.layers.positions import alibi_bias, rotary_angles
from lm.layers.residual import writes_residual
from lm.memory import check_memory
from lm.mixers import mixer_class
from lm.mixers.attention import SoftmaxAttention
from lm.mixers.base import Mixer
from lm.mixers.bidirectional_relative_attention import BidirectionalRelativeAttention
from lm.mixers.position_attention import PositionAttention, UniformAttention
from lm.mixers.relative_attention import RelativeAttention
from lm.native.block import can_fuse, run_block
from lm.options import GATED, TABLE_POSITIONS
from lm.startup import QuickMetaDevice
from synth.errors import UserError

MIXERS: dict[str, type[Mixer]] = {
    "learned": SoftmaxAttention,
    "rotary": SoftmaxAttention,
    "none": SoftmaxAttention,
    "relative": RelativeAttention,
    "position_only": PositionAttention,
    "uniform": UniformAttention,
    "alibi": SoftmaxAttention,
    "half_alibi": SoftmaxAttention,
}
ENCODERS: dict[str, type[Mixer]] = {
    "learned": SoftmaxAttention,
    "rotary": SoftmaxAttention,
    "relative": BidirectionalRelativeAttention,
}
NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
EPSILON = {"layer": 1e-5, "rms": 1e-6}  # the defaults of GPT-2 and LLaMA in transformers


def mixer_of(config: ModelConfig) -> type[Mixer]:
    """The class of the config's token mixers."""
    if config.mixer != "attention":
        return mixer_class(config.mixer)
    return (MIXERS if config.causal else ENCODERS)[config.positions]


def require_causal(model: nn.Module, purpose: str) -> None:
    """Raise UserError for an encoder, which cannot do `purpose` as its tokens see those that follow."""
    if not getattr(getattr(model, "config", None), "causal", True):
        raise UserError(f"{purpose} needs a causal model and this is an encoder; train one with causal=True")


def make_norm(config: ModelConfig) -> nn.Module:
    norm = NORMS[config.norm](config.d_model, eps=EPSILON[config.norm])
    if config.norm == "layer" and not config.bias:
        norm.register_parameter("bias", None)
    return norm


def make_mixer(config: ModelConfig) -> Mixer:
    """One token mixer. Raises UserError if it marks no residual writer, or lacks the Canon layer B of the config."""
    mixer = mixer_of(config)(config)
    name, modules = type(mixer).__name__, list(mixer.modules())
    if not any(map(writes_residual, modules)):
        raise UserError(
            f"{name} does not mark its output layer, whose initial weights depend on it; write "
            "residual_writer(nn.Linear(...)), from lm.layers.residual (residual_writer(self) without an output layer)"
        )
    if "B" in config.canon and not any(isinstance(m, Canon) and m.key == "canon_b" for m in modules):
        raise UserError(
            f"canon={config.canon} has place B, which {name} lacks; leave out B, or give the mixer "
            'canon_for(config, "B", channels) on its projections'
        )
    return mixer


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)) if there is an MLP.

    Canon layers A and C follow the norms, B is in the mixer and D in the MLP; none is on the residual stream.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mixer_norm = make_norm(config)
        self.canon_a = canon_for(config, "A", config.d_model)
        self.mixer = make_mixer(config)
        self.mlp: Any = None
        self.canon_c = canon_for(config, "C", config.d_model)
        self.canon_d = canon_for(config, "D", config.mlp_hidden_dim * (2 if config.mlp in GATED else 1))
        if config.mlp != "none":
            self.mlp_norm = make_norm(config)
            self.mlp = MixtureOfExperts(config) if config.n_experts else make_mlp(config)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: SequenceContext,
        cache: LayerCache | None = None,
        aux_losses: AuxLosses | None = None,
    ) -> Float[Tensor, "B T D"]:
        h = self.mixer_norm(x)
        if self.canon_a is not None:
            h = self.canon_a(h, context, cache)
        x = x + (self.mixer(h, context) if cache is None else self.mixer.prefill(h, context, cache))
        if self.mlp is None:
            return x
        h = self.mlp_norm(x)
        if self.canon_c is not None:
            h = self.canon_c(h, context, cache)
        if self.canon_d is None:
            return x + self.mlp(h, aux_losses)
        return x + self.mlp(h, aux_losses, partial(self.canon_d, context=context, cache=cache))

    def empty_cache(self, rows: int, length: int, context: SequenceContext) -> LayerCache:
        """Empty cache of the mixer and the Canon layers, for `rows` sequences of at most `length` tokens."""
        cache = self.mixer.empty_cache(rows, length, context)
        cache.update(empty_canon_caches(rows, self.canon_a, self.canon_c, self.canon_d))
        return cache

    def step(
        self, x: Float[Tensor, "B D"], cache: LayerCache, t: int, context: SequenceContext
    ) -> Float[Tensor, "B D"]:
        h = self.mixer_norm(x)
        if self.canon_a is not None:
            h = self.canon_a.step(h, cache)
        x = x + self.mixer.step(h, cache, t, context)
        if self.mlp is None:
            return x
        h = self.mlp_norm(x)
        if self.canon_c is not None:
            h = self.canon_c.step(h, cache)
        if self.canon_d is None:
            return x + self.mlp(h)
        return x + self.mlp(h, None, partial(self.canon_d.step, cache=cache))


class Decoder(nn.Module):
    """A causal language model, or with causal=False an encoder, defined by config and vocab_size; see `build`."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.checkpoint_activations = False  # see lm.config.TrainConfig
        self.embed = nn.Embedding(vocab_size, config.d_model)
        if config.positions in TABLE_POSITIONS:
            both = config.positions == "relative" and not config.causal  # distances of both signs, and 0
            self.positions = nn.Embedding(2 * config.max_seq_len - 1 if both else config.max_seq_len, config.d_model)
        self.blocks: Any = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        if not config.tie_embeddings:
            self.head = nn.Linear(config.d_model, vocab_size, bias=False)

    def tables(self) -> list[nn.Embedding | nn.Linear]:
        """Token embedding, positions table and output embedding; the latter two only if the model has its own."""
        return [getattr(self, name) for name in ("embed", "positions", "head") if hasattr(self, name)]

    def make_context(self, length: int, documents: Int[Tensor, "B T"] | None = None, start: int = 0) -> SequenceContext:
        """Context of positions start..length-1. Raises UserError beyond the model's table of positions."""
        self.check_length(length)
        index, allowed = positions_and_mask(self.config, length, documents, self.embed.weight.device)
        index = index[..., start:]
        angles = rotary_angles(self.config, index, length) if self.config.positions == "rotary" else None
        shared = self.config.positions in ("relative", "position_only")
        far = self.config.positions in ("alibi", "half_alibi")
        bias = alibi_bias(self.config, start, length, index.device, allowed) if far else None
        return SequenceContext(index, allowed, angles, self.positions.weight if shared else None, bias)

    def check_length(self, length: int) -> None:
        """Raise UserError if the model has a table of positions shorter than `length`."""
        if self.config.positions in TABLE_POSITIONS and length > self.config.max_seq_len:
            raise UserError(
                f"{length} tokens do not fit max_seq_len={self.config.max_seq_len} of positions={self.config.positions}"
                f"; build the model with max_seq_len={length} or use rotary, none, alibi or uniform positions"
            )

    def embed_tokens(self, inputs: Tensor, index: Tensor | int) -> Tensor:
        """Token embeddings, with learned positions added."""
        x = self.embed(inputs)
        return x + self.positions.weight[index] if self.config.positions == "learned" else x

    def logits(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Final norm and output embedding."""
        return F.linear(self.norm(x), self.embed.weight if self.config.tie_embeddings else self.head.weight)

    def forward(
        self,
        inputs: Int[Tensor, "B T"],
        documents: Int[Tensor, "B T"] | None = None,
        caches: list[LayerCache] | None = None,
        aux_losses: AuxLosses | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the next token at every position; in an encoder, of the position's own token.

        documents: document number of each token; tokens of different documents do not see each other, and positions
        restart at each. caches: filled with what `step` needs to continue. aux_losses: layers append auxiliary losses
        (nats per token). Raises UserError for a sequence longer than the model's table of positions.
        """
        context = self.make_context(inputs.shape[1], documents)
        return self.logits(self.run_blocks(self.embed_tokens(inputs, context.index), context, caches, aux_losses))

    def run_blocks(
        self,
        x: Float[Tensor, "B T D"],
        context: SequenceContext,
        caches: list[LayerCache] | None = None,
        aux_losses: AuxLosses | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The residual stream after all blocks, from the input of the first; see `forward` for the arguments."""
        for layer, block in enumerate(self.blocks):
            if caches is None and can_fuse(block, x, context):
                x = run_block(block, x, context)
            elif self.checkpoint_activations and caches is None and torch.is_grad_enabled():
                x = checkpoint(block, x, context, None, aux_losses, use_reentrant=False)
            else:
                x = block(x, context, caches[layer] if caches else None, aux_losses)
        return x

    def empty_caches(self, rows: int, length: int) -> list[LayerCache]:
        """Empty caches of all blocks, for `rows` sequences of `length` tokens. Raises UserError for an encoder."""
        require_causal(self, "going on token by token")
        context = self.make_context(length)
        return [block.empty_cache(rows, length, context) for block in self.blocks]

    def step(self, tokens: Int[Tensor, " B"], caches: list[LayerCache], t: int) -> Float[Tensor, "B V"]:
        """Logits after one more token of every sequence, at position t."""
        context = self.make_context(t + 1, start=t)
        x = self.embed_tokens(tokens, t)
        for cache, block in zip(caches, self.blocks, strict=True):
            x = block.step(x, cache, t, context)
        return self.logits(x)


def meta_model(config: ModelConfig, vocab_size: int) -> Decoder:
    """A decoder on the meta device, for counting parameters or loading a state dict."""
    with QuickMetaDevice(), torch.device("meta"):
        return Decoder(config, vocab_size)


def build(config: ModelConfig, vocab_size: int, seed: int) -> Decoder:
    """A decoder whose weights are a pure function of (config, vocab_size, seed); the global RNG is not used.

    Raises UserError for an empty vocabulary and for a model that does not fit into memory.
    """
    if vocab_size < 1:
        raise UserError(f"vocab_size={vocab_size} leaves nothing to predict; give at least 1")
    check_memory(config, vocab_size)
    model = meta_model(config, vocab_size)
    with QuickMetaDevice():
        model.to_empty(device="cpu")
    init_weights(model, seed)
    return model
