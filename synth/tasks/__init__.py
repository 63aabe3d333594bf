"""One file a task; each is found by itself."""
