"""Four kinds of questions about real-world facts for any transformers model or chat endpoint."""
