"""Evaluations and measurements that several experiments share."""
