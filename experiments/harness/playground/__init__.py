"""A token mixer beside others on a suite of tasks: one score card."""
