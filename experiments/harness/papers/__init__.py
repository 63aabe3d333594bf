"""What the experiments of one paper share: its worlds, scales and numbers."""
