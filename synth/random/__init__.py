"""Seeded randomness: independent streams, the same numbers inside numba, random sizes and random graphs."""
