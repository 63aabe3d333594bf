"""Questions asked of a trained model: validity and divergence from the truth, likelihood, linear probes, capacity."""
