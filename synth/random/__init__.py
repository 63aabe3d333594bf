"""Seeded randomness: independent streams, draws inside numba loops, random sizes and random graphs."""
