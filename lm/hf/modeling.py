"""Our decoders as transformers models, so that the field's other tools (generate, Trainer, peft) work on them.

Importing this module registers them with AutoConfig and AutoModelForCausalLM, and for encoders AutoModelForMaskedLM.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from lm.config import ModelConfig
from lm.inference.hooks import find_hook_points, record_outputs
from lm.initialization import init_weights
from lm.model import Decoder, require_causal
from synth.errors import UserError


class PhysConfig(PretrainedConfig):
    """A ModelConfig (as the dict `architecture`) and a vocabulary size as a transformers PretrainedConfig."""

    model_type = "physics-lm"

    def __init__(self, architecture: dict[str, Any] | None = None, vocab_size: int = 6, **others: Any) -> None:
        # may come from a file, so it is validated like one; a mixer's code runs only if the user named it
        self.architecture = asdict(ModelConfig.read(architecture or {}, "the model's config.json"))
        self.vocab_size = vocab_size
        # the names by which transformers' tools look for sizes
        self.hidden_size = self.architecture["d_model"]
        self.num_hidden_layers = self.architecture["n_layers"]
        self.num_attention_heads = self.architecture["n_heads"]
        super().__init__(**{"use_cache": False, "tie_word_embeddings": False, **others})


class PhysForCausalLM(PreTrainedModel, GenerationMixin):
    """A Decoder as a transformers PreTrainedModel, without its KV cache: `lm.generate` is the fast sampler."""

    config_class = PhysConfig
    main_input_name = "input_ids"
    accepts_loss_kwargs = False  # the loss is the mean over this batch, not over the accumulated one
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: PhysConfig) -> None:
        super().__init__(config)
        self.gradient_checkpointing = False
        self.decoder = Decoder(ModelConfig(**config.architecture), config.vocab_size)
        self.post_init()

    @classmethod
    def wrap(cls, model: Decoder) -> "PhysForCausalLM":
        """Wrap a decoder; the weights are shared, not copied."""
        with torch.device("meta"):
            wrapped = cls(PhysConfig(asdict(model.config), model.vocab_size))
        wrapped.decoder = model
        return wrapped

    def initialize_weights(self) -> None:
        """Fill what no file has filled by the rules of `lm.build`; the seed is drawn from torch's global generator."""

        def is_loaded(tensor: Tensor) -> bool:
            return getattr(tensor, "_is_hf_initialized", False)

        if not all(map(is_loaded, [*self.decoder.parameters(), *self.decoder.buffers()])):
            init_weights(self.decoder, int(torch.randint(2**31, (), device="cpu")), keep=is_loaded)

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., Any] | None = None,
        every_n_layers: int = 1,
    ) -> None:
        self.gradient_checkpointing = self.decoder.checkpoint_activations = enable

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.embed, self.decoder.vocab_size = value, value.num_embeddings

    def get_output_embeddings(self) -> nn.Module | None:
        """None where the output embedding is the token table."""
        return getattr(self.decoder, "head", None)

    def set_output_embeddings(self, value: Any) -> None:
        self.decoder.head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Logits (B, T, V) and, with labels (B, T; -100 is ignored), the mean cross-entropy in nats: of the next label
        in a causal model, of the label itself in an encoder.

        Padding (attention_mask 0, on either side) is a document of its own that no other token sees; give it the label
        -100 to leave it out of the loss. hidden_states: input of every block, then the output of the last norm, each
        (B, T, D); attentions: weights of every block (B, H, T, T), of attention alone. Raises UserError for what there
        is not: a cache, other positions than from 0 on in each document, a mask with a hole.
        """
        if past_key_values is not None or use_cache:
            raise UserError(
                "this wrapper has no cache of keys and values; leave use_cache out, or sample by lm.generate"
            )
        if (input_ids is None) == (inputs_embeds is None):
            raise UserError("give either input_ids or inputs_embeds")
        documents = _documents(attention_mask)
        given: Any = inputs_embeds if input_ids is None else input_ids
        context = self.decoder.make_context(given.shape[1], documents)
        _check_positions(position_ids, context.index, attention_mask)
        names = self._recorded(output_hidden_states, output_attentions)
        points = find_hook_points(self.decoder).points if names else {}
        with record_outputs({name: points[name] for name in names}) as outputs:
            if inputs_embeds is None:
                logits = self.decoder(input_ids, documents)
            else:
                learned = self.decoder.config.positions == "learned"
                x = inputs_embeds + self.decoder.positions.weight[context.index] if learned else inputs_embeds
                logits = self.decoder.logits(self.decoder.run_blocks(x, context))
        weights = tuple(outputs[name] for name in names if name.endswith(".weights"))
        hidden = tuple(outputs[name] for name in names if not name.endswith(".weights"))
        loss = None if labels is None else self._loss(logits, labels)
        made = CausalLMOutput(loss=loss, logits=logits, hidden_states=hidden or None, attentions=weights or None)
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return made if as_dict else made.to_tuple()

    def _recorded(self, hidden: bool | None, attentions: bool | None) -> list[str]:
        """Names of the activations (lm.inference.activations) that are asked for, by argument or configuration."""
        n_layers = self.decoder.config.n_layers
        names = []
        if self.config.output_hidden_states if hidden is None else hidden:
            names += ["embed", *(f"block.{i}" for i in range(n_layers - 1)), "final"]
        if getattr(self.config, "output_attentions", False) if attentions is None else attentions:
            if not hasattr(self.decoder.blocks[0].mixer, "weights"):
                raise UserError(
                    f"mixer={self.decoder.config.mixer} has no attention weights; leave output_attentions out"
                )
            names += [f"block.{i}.weights" for i in range(n_layers)]
        return names

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        predicted = logits
        if self.decoder.config.causal:
            predicted, labels = logits[:, :-1], labels[:, 1:]
        return F.cross_entropy(predicted.flatten(0, 1).float(), labels.flatten())

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, inputs_embeds: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        """The whole text so far, embedded by the caller or not; there is no cache."""
        require_causal(self.decoder, "generation")
        if inputs_embeds is None:
            return {"input_ids": input_ids, "attention_mask": attention_mask}
        # generate() keeps the embeddings of the prompt and the ids of what it has written
        written = self.decoder.embed(input_ids)
        return {"inputs_embeds": torch.cat([inputs_embeds, written], 1), "attention_mask": attention_mask}


def _documents(attention_mask: Tensor | None) -> Tensor | None:
    """Document numbers (B, T) of a mask with padding, None without any."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    if attention_mask.ndim != 2:
        raise UserError(f"attention_mask has the shape {tuple(attention_mask.shape)}; give one number a token, (B, T)")
    starts = attention_mask.bool().long().diff(dim=1, prepend=torch.zeros_like(attention_mask[:, :1]).long())
    if bool(((starts == 1).sum(1) > 1).any()):
        raise UserError("attention_mask has a hole between two tokens of a row; move the padding to either side")
    return attention_mask.long()


def _check_positions(position_ids: Tensor | None, index: Tensor, attention_mask: Tensor | None) -> None:
    """Raise UserError for positions other than those that the model takes, padding aside."""
    if position_ids is None:
        return
    same = position_ids == index
    if attention_mask is not None:
        same = same | (attention_mask == 0)
    if not bool(same.all()):
        raise UserError("position_ids other than 0, 1, 2, ... in each document are not taken; leave them out")


AutoConfig.register(PhysConfig.model_type, PhysConfig, exist_ok=True)
AutoModelForCausalLM.register(PhysConfig, PhysForCausalLM, exist_ok=True)
AutoModelForMaskedLM.register(PhysConfig, PhysForCausalLM, exist_ok=True)
