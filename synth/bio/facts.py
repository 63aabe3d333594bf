"""Bits of information in a world of people (Part 3.3, arXiv 2404.05405, Theorem 3.2 and R_max)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2


@dataclass(frozen=True)
class InformationContent:
    """Bits of information in N people; divided by the number of parameters, the paper's R_max.

    people: N. log2_names: log2 N0 of the number of possible names. log2_values: log2 of the number of possible values
    by attribute (C log2 D in bioD), without attributes that others determine. sets: number of string sets to be learned
    (K in bioD, 0 if the values are public), each of set_size = D strings out of 2**log2_strings = T**L.
    """

    people: int
    log2_names: float
    log2_values: Mapping[str, float]
    sets: int = 0
    set_size: int = 1
    log2_strings: float = 0.0

    @property
    def name_bits(self) -> float:
        """N log2(N0/N): which names were drawn."""
        return self.people * (self.log2_names - log2(self.people))

    @property
    def value_bits(self) -> float:
        """N log2 S0: which values the people have (N K C log2 D in bioD)."""
        return self.people * sum(self.log2_values.values())

    @property
    def diversity_bits(self) -> float:
        """K D log2(T^L/D): which strings the values are made of."""
        return self.sets * self.set_size * (self.log2_strings - log2(self.set_size))

    @property
    def bits(self) -> float:
        """The sum of the three: the numerator of R_max."""
        return self.name_bits + self.value_bits + self.diversity_bits
