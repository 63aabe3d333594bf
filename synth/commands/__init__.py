"""What `python -m synth` does: show, export and score."""
