"""The training loop and its state: optimizer step, checkpoints, history, several devices, signals, trackers."""
