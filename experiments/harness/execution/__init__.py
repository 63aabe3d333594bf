"""Execution of one run: trainings, the model cache, evaluations, several ranks."""
