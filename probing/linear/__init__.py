"""Linear probes of hidden states: position-based, logistic, and with low-rank updates of the embedding."""
