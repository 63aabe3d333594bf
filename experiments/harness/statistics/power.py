"""`python -m experiments power`: how many seeds an effect takes until it is decided. docs/statistics.md explains it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from experiments.harness.statistics.sequential import AUTO, Design, design_from_text
from synth.errors import UserError

EFFECTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
POWER, MOST_SEEDS = 0.8, 1000


@dataclass(kw_only=True)
class Power:
    """Print how many seeds an effect takes."""

    effect: float | None = None
    """difference from the threshold over the standard deviation between seeds; if not given, several"""
    difference: float | None = None
    """difference from the threshold, in the quantity's own unit; needs --spread"""
    spread: float | None = None
    """standard deviation between seeds, of the paired difference if architectures are compared"""
    looks: str = AUTO.text
    """numbers of seeds at which claims are looked at; one number: a fixed number of seeds"""

    def run(self, folder: Path) -> None:
        effects, design = self.effects(), design_from_text(self.looks)
        print("\n".join(power_lines(design, effects)))

    def effects(self) -> tuple[float, ...]:
        """The effects of the table. Raises UserError for options that name none, or two."""
        if (self.difference is None) != (self.spread is None):
            raise UserError("--difference and --spread belong together; give both, or --effect")
        if self.difference is None or self.spread is None:
            return EFFECTS if self.effect is None else (_positive(self.effect, "--effect"),)
        if self.effect is not None:
            raise UserError("--effect is --difference over --spread; give it or them")
        return (_positive(self.difference, "--difference") / _positive(self.spread, "--spread"),)


def _positive(value: float, flag: str) -> float:
    if not (isfinite(value) and value > 0):
        raise UserError(f"{flag} {value:g} is not a number above 0")
    return value


def power_lines(design: Design, effects: Iterable[float]) -> Iterator[str]:
    """The lines of a table: for each effect, the probability to be decided by each look, and seeds in the mean."""
    from experiments.harness.statistics.simulation import NormalMean, simulate_verdicts

    yield f"probability that a true effect is reproduced; one-sided error {design.error:.0%} over all looks"
    columns = [f"by {look}" for look in design.looks]
    yield "".join(f"{text:>8}" for text in ("effect", *columns)) + f"{'mean seeds':>13}{'one look at 80%':>18}"
    for effect in effects:
        found = simulate_verdicts(design, NormalMean(effect))
        shares = "".join(f"{share:>8.0%}" for share in found.reproduced_by.values())
        needed = seeds_needed(effect, design.error)
        yield f"{effect:>8.3g}{shares}{found.seeds:>13.1f}{needed or '-':>18}"


def seeds_needed(effect: float, error: float = 0.05, power: float = POWER) -> int | None:
    """The fewest seeds, looked at once, with which Student's one-sided test finds an effect with this probability.

    effect: in units of the spread between seeds. None if that takes more than 1000 seeds.
    """
    import numpy as np
    from scipy.special import nctdtr, stdtrit

    n = np.arange(2, MOST_SEEDS + 1)
    missed = nctdtr(n - 1, effect * np.sqrt(n), stdtrit(n - 1, 1 - error))
    enough = n[missed <= 1 - power]
    return int(enough[0]) if len(enough) else None
