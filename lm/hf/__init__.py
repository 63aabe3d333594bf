"""To and from Hugging Face transformers: a PreTrainedModel around ours, and weights exchanged with GPT-2 and LLaMA."""

from lm.hf.modeling import PhysConfig, PhysForCausalLM

__all__ = ["PhysConfig", "PhysForCausalLM"]
