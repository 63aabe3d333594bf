"""Our decoders as transformers models, so that the field's other tools (generate, Trainer, peft) work on them.

Importing this module registers them with AutoConfig and AutoModelForCausalLM, and for encoders AutoModelForMaskedLM.
"""

from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
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
from lm.model import Decoder, require_causal


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
    _supports_sdpa = True

    def __init__(self, config: PhysConfig) -> None:
        super().__init__(config)
        self.decoder = Decoder(ModelConfig(**config.architecture), config.vocab_size)
        self.post_init()

    @classmethod
    def wrap(cls, model: Decoder) -> "PhysForCausalLM":
        """Wrap a decoder; the weights are shared, not copied."""
        with torch.device("meta"):
            wrapped = cls(PhysConfig(asdict(model.config), model.vocab_size))
        wrapped.decoder = model
        return wrapped

    def _init_weights(self, module: Any) -> None:
        """Nothing: weights come from `lm.build` or from a file."""

    def get_input_embeddings(self) -> Any:
        return self.decoder.embed

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.embed = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """Logits (B, T, V) and, with labels (B, T; -100 is ignored), the mean cross-entropy in nats: of the next label
        in a causal model, of the label itself in an encoder.

        Padding (attention_mask 0, on either side) is a document of its own that no other token sees; give it the label
        -100 to leave it out of the loss.
        """
        padded = attention_mask is not None and not bool(attention_mask.all())
        logits = self.decoder(input_ids, attention_mask if padded else None)
        loss = None
        if labels is not None:
            if self.decoder.config.causal:
                predicted, labels = logits[:, :-1], labels[:, 1:]
            else:
                predicted = logits
            loss = F.cross_entropy(predicted.flatten(0, 1).float(), labels.flatten())
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        require_causal(self.decoder, "generation")
        return {"input_ids": input_ids, "attention_mask": attention_mask}


AutoConfig.register(PhysConfig.model_type, PhysConfig, exist_ok=True)
AutoModelForCausalLM.register(PhysConfig, PhysForCausalLM, exist_ok=True)
AutoModelForMaskedLM.register(PhysConfig, PhysForCausalLM, exist_ok=True)
