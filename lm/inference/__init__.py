"""Inference: sampling, activations by name, hooks, ablation of blocks."""
