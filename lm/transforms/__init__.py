"""Changes made to a trained model: LoRA adapters and quantization."""
