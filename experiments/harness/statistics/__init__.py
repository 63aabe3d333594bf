"""Estimates with their intervals, and designs that look at the seeds several times."""
