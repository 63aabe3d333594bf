"""A trained model at work: sampling, activations by name, hooks, ablation of layers."""
