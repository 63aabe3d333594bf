"""Answers of reasoning tasks, teacher-forced and free-running; norms of queries and keys."""
