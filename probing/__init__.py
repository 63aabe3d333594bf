"""Questions asked of a trained model: validity, entropy and divergence from the exact truth."""
