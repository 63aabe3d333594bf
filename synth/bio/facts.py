"""How many bits a world of people holds (Part 3.3, arXiv 2404.05405, Theorem 3.2 and the R_max after it)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2


@dataclass(frozen=True)
class Facts:
    """The information in N people, in bits: what divided by the number of parameters is the paper's R_max.

    people: N. log2_names: log2 N0, the number of names that could have been drawn. log2_values: for every counted
    attribute the log2 of its number of possible values (C log2 D in bioD); attributes that others determine are not in
    it. sets: how many sets of strings had to be learned (K in bioD, 0 where the values are public), each of
    set_size = D strings out of 2**log2_strings = T**L.
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
        """All of it: the numerator of R_max."""
        return self.name_bits + self.value_bits + self.diversity_bits
