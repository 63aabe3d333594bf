"""To and from Hugging Face transformers: a PreTrainedModel around ours, and weights exchanged with GPT-2 and LLaMA."""
