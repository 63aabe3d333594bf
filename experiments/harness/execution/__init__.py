"""A run, done once: its trainings, cached models, evaluations, several GPUs at one run."""
