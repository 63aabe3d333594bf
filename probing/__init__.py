"""Questions asked of a trained model: validity and divergence from the exact truth, likelihood, knowledge capacity."""
