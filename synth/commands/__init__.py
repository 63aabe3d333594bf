"""The commands of `python -m synth`: show, export and score."""
