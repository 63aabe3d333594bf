"""Worlds of people: sampling them, counting their bits, and writing and parsing biographies."""

from synth.bio.facts import InformationContent
from synth.bio.world import PeopleTask

__all__ = ["InformationContent", "PeopleTask"]
