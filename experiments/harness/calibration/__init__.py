"""The search for sizes of a task that tell models apart."""
