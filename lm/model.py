"""The one model of the suite: pre-norm blocks of a token mixer and an MLP (GPT-2, LLaMA; docs/architectures.md)."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.config import BOUNDED, GATED, ModelConfig
from lm.initialization import initialise
from lm.layers.cache import State
from lm.layers.canon import Canon, canon_for, memories
from lm.layers.mlp import Costs, make_mlp
from lm.layers.moe import Experts
from lm.layers.positions import Places, angles_at, bias_at, locate
from lm.mixers import mixer_class
from lm.mixers.attention import SoftmaxAttention
from lm.mixers.base import Mixer
from lm.mixers.bidirectional_relative_attention import TwoWayAttention
from lm.mixers.position_attention import PositionAttention, UniformAttention
from lm.mixers.relative_attention import RelativeAttention
from lm.validation import check_memory
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
    "relative": TwoWayAttention,
}
NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
EPSILON = {"layer": 1e-5, "rms": 1e-6}  # the defaults of GPT-2 and LLaMA in transformers


def mixer_of(config: ModelConfig) -> type[Mixer]:
    """The class of the configuration's token mixers."""
    if config.mixer != "attention":
        return mixer_class(config.mixer)
    return (MIXERS if config.causal else ENCODERS)[config.positions]


def require_causal(model: nn.Module, purpose: str) -> None:
    """Raise UserError for an encoder, whose tokens have seen those that `purpose` has yet to predict."""
    if not getattr(getattr(model, "config", None), "causal", True):
        raise UserError(f"{purpose} needs a causal model and this is an encoder; train one with causal=True")


def make_norm(config: ModelConfig) -> nn.Module:
    norm = NORMS[config.norm](config.width, eps=EPSILON[config.norm])
    if config.norm == "layer" and not config.bias:
        norm.register_parameter("bias", None)
    return norm


def make_mixer(config: ModelConfig) -> Mixer:
    """One mixer. Raises UserError when the configuration wants a Canon layer in it and it has no place for one."""
    mixer = mixer_of(config)(config)
    if "B" in config.canon and not any(isinstance(m, Canon) and m.key == "canon_b" for m in mixer.modules()):
        raise UserError(
            f"canon={config.canon} has place B, which {type(mixer).__name__} lacks; leave out B, or give the mixer "
            'canon_for(config, "B", channels) on its projections'
        )
    return mixer


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)), the second half left out without an MLP.

    Canon layers A and C follow the norms and D stands inside the MLP, so that the residual stream never meets them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.mixer_norm = make_norm(config)
        self.canon_a = canon_for(config, "A", config.width)
        self.mixer = make_mixer(config)
        self.mlp: Any = None
        self.canon_c = canon_for(config, "C", config.width)
        self.canon_d = canon_for(config, "D", config.hidden_width * (2 if config.mlp in GATED else 1))
        if config.mlp != "none":
            self.mlp_norm = make_norm(config)
            self.mlp = Experts(config) if config.experts else make_mlp(config)

    def forward(
        self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None, costs: Costs | None = None
    ) -> Float[Tensor, "B T D"]:
        h = self.mixer_norm(x)
        if self.canon_a is not None:
            h = self.canon_a(h, places, state)
        x = x + (self.mixer(h, places) if state is None else self.mixer.remembering(h, places, state))
        if self.mlp is None:
            return x
        h = self.mlp_norm(x)
        if self.canon_c is not None:
            h = self.canon_c(h, places, state)
        if self.canon_d is None:
            return x + self.mlp(h, costs)
        return x + self.mlp(h, costs, partial(self.canon_d, places=places, state=state))

    def state(self, rows: int, length: int, places: Places) -> State:
        """An empty memory of the mixer and the Canon layers."""
        state = self.mixer.state(rows, length, places)
        state.update(memories(rows, self.canon_a, self.canon_c, self.canon_d))
        return state

    def step(self, x: Float[Tensor, "B D"], state: State, t: int, places: Places) -> Float[Tensor, "B D"]:
        h = self.mixer_norm(x)
        if self.canon_a is not None:
            h = self.canon_a.step(h, state)
        x = x + self.mixer.step(h, state, t, places)
        if self.mlp is None:
            return x
        h = self.mlp_norm(x)
        if self.canon_c is not None:
            h = self.canon_c.step(h, state)
        if self.canon_d is None:
            return x + self.mlp(h)
        return x + self.mlp(h, None, partial(self.canon_d.step, state=state))


class Decoder(nn.Module):
    """A causal language model, or with causal=False an encoder; `config` and `vocab_size` are its whole description.

    Made by `build`.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.embed = nn.Embedding(vocab_size, config.width)
        if config.positions in BOUNDED:
            both = config.positions == "relative" and not config.causal  # distances of both signs, and 0
            self.positions = nn.Embedding(2 * config.context - 1 if both else config.context, config.width)
        self.blocks: Any = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = make_norm(config)
        if not config.tied:
            self.head = nn.Linear(config.width, vocab_size, bias=False)

    def places(self, length: int, documents: Int[Tensor, "B T"] | None = None, start: int = 0) -> Places:
        """The places of positions start..length-1. Raises UserError beyond the context of a model with a table."""
        self.check_length(length)
        index, allowed = locate(self.config, length, documents, self.embed.weight.device)
        index = index[..., start:]
        angles = angles_at(self.config, index, length) if self.config.positions == "rotary" else None
        shared = self.config.positions in ("relative", "position_only")
        far = self.config.positions in ("alibi", "half_alibi")
        bias = bias_at(self.config, start, length, index.device, allowed) if far else None
        return Places(index, allowed, angles, self.positions.weight if shared else None, bias)

    def check_length(self, length: int) -> None:
        """Raise UserError when the positions mode holds a table shorter than `length`."""
        if self.config.positions in BOUNDED and length > self.config.context:
            raise UserError(
                f"{length} tokens do not fit context={self.config.context} of positions={self.config.positions}; "
                f"build the model with context={length} or use rotary, none, alibi or uniform positions"
            )

    def embedded(self, inputs: Tensor, index: Tensor | int) -> Tensor:
        """Token embeddings, with learned positions added."""
        x = self.embed(inputs)
        return x + self.positions.weight[index] if self.config.positions == "learned" else x

    def logits(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Final norm and output embedding."""
        return F.linear(self.norm(x), self.embed.weight if self.config.tied else self.head.weight)

    def forward(
        self,
        inputs: Int[Tensor, "B T"],
        documents: Int[Tensor, "B T"] | None = None,
        states: list[State] | None = None,
        costs: Costs | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the next token at every position; in an encoder, of the position's own token.

        documents: the number of the document each token belongs to; tokens of different documents do not see each other
        and positions restart at each. states: filled with what `step` needs to go on from here.
        costs: to it the layers append what they want added to the objective, in nats a token.
        Raises UserError when the sequence is longer than the model's table of positions.
        """
        places = self.places(inputs.shape[1], documents)
        return self.logits(self.through(self.embedded(inputs, places.index), places, states, costs))

    def through(
        self, x: Float[Tensor, "B T D"], places: Places, states: list[State] | None = None, costs: Costs | None = None
    ) -> Float[Tensor, "B T D"]:
        """The residual stream after all blocks, from what the first of them reads (see `forward`)."""
        for layer, block in enumerate(self.blocks):
            x = block(x, places, states[layer] if states else None, costs)
        return x

    def states(self, rows: int, length: int) -> list[State]:
        """Empty memories of all layers for `rows` sequences of at most `length` tokens.

        Raises UserError for an encoder: what it computed for a token changes with every token after it.
        """
        require_causal(self, "going on token by token")
        places = self.places(length)
        return [block.state(rows, length, places) for block in self.blocks]

    def step(self, tokens: Int[Tensor, " B"], states: list[State], t: int) -> Float[Tensor, "B V"]:
        """Logits after one more token, the t-th of every sequence."""
        places = self.places(t + 1, start=t)
        x = self.embedded(tokens, t)
        for state, block in zip(states, self.blocks, strict=True):
            x = block.step(x, state, t, places)
        return self.logits(x)


def outline(config: ModelConfig, vocab_size: int) -> Decoder:
    """A decoder of these shapes without weights, on the meta device: to be counted, or to be given some."""
    with torch.device("meta"):
        return Decoder(config, vocab_size)


def build(config: ModelConfig, vocab_size: int, seed: int) -> Decoder:
    """A decoder whose weights are a pure function of (config, vocab_size, seed); the global RNG is not touched.

    Raises UserError for an empty vocabulary, and for a model that has no room in memory.
    """
    if vocab_size < 1:
        raise UserError(f"vocab_size={vocab_size} leaves nothing to predict; give at least 1")
    check_memory(config, vocab_size)
    model = outline(config, vocab_size)
    model.to_empty(device="cpu")
    initialise(model, seed)
    return model
