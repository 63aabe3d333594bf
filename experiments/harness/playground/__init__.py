"""Compare architectures on a suite of tasks: one score card."""
