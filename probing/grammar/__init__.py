"""What a model knows of a grammar: validity, parse states in its hidden states, attention, embeddings, robustness."""
