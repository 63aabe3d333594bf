"""Scores that all probes share: log-likelihoods, answers from a closed set, accuracy and its intervals."""
