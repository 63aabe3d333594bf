"""Exact answers about sentences of a grammar: membership, parses, probabilities, next tokens, distances, entropies."""
