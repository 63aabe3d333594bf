"""Worlds of people: what they hold in bits, how names and values are drawn, how biographies are written and read."""

from synth.bio.facts import Facts
from synth.bio.world import PeopleTask

__all__ = ["Facts", "PeopleTask"]
