"""A model with a database and written-out steps beside it, and its evaluation."""
