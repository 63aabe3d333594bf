"""Which size of a task to try next, when each try costs a training.

Sizes are tuples of ranks, 0 for the easiest value of a field. A size that is harder in every ordered field than one at
floor is presumed at floor, and one that is easier than a size at ceiling at ceiling, so that most of a grid need not be
tried.
"""

from collections.abc import Sequence
from typing import Literal

Verdict = Literal["floor", "informative", "ceiling"]
SizeRanks = tuple[int, ...]
FLOOR_MARGIN, CEILING = 0.1, 0.9  # of the way from chance to 1; share of right answers


def classify_score(score: float, chance: float) -> Verdict:
    """floor up to a tenth of the way from chance to 1, ceiling from 0.9, else informative."""
    if score >= CEILING:
        return "ceiling"
    return "informative" if score > chance + FLOOR_MARGIN * (1 - chance) else "floor"  # NaN is no sign of life


def combine_verdicts(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of several models at one size: informative unless all of them are at floor or all at ceiling."""
    return verdicts[0] if len(set(verdicts)) == 1 else "informative"


class Search:
    """A search over the sizes of a grid: the verdicts known or presumed so far, and the next size to try.

    ordered: for every field whether its values go from easy to hard; sizes that differ in another field say nothing
    about each other.
    """

    def __init__(self, sizes: Sequence[SizeRanks], ordered: Sequence[bool]) -> None:
        self.sizes = list(sizes)
        self.verdicts: dict[SizeRanks, Verdict] = {}
        # a size itself included, here and below
        self.harder = {a: {b for b in sizes if _is_no_harder(a, b, ordered)} for a in sizes}
        self.easier = {b: {a for a in sizes if _is_no_harder(a, b, ordered)} for b in sizes}
        self.easiest = [size for size in sizes if len(self.easier[size]) == 1]

    def record(self, size: SizeRanks, verdict: Verdict) -> None:
        """Record the verdict measured at a size, and what follows for others."""
        spread = {"floor": self.harder[size], "ceiling": self.easier[size], "informative": {size}}[verdict]
        self.verdicts = dict.fromkeys(spread, verdict) | self.verdicts | {size: verdict}

    def remaining(self) -> list[SizeRanks]:
        """The sizes without a verdict."""
        return [size for size in self.sizes if size not in self.verdicts]

    def suggest(self) -> SizeRanks | None:
        """The next size to try; None when all have a verdict.

        First the easiest of comparable sizes, since nothing is learned above it if it is at floor; then the size that
        decides most others, counting the worse of its two outcomes.
        """
        left = self.remaining()
        first = [size for size in self.easiest if size not in self.verdicts]
        return first[0] if first else max(left, key=lambda size: self._num_decided(size, set(left)), default=None)

    def _num_decided(self, size: SizeRanks, left: set[SizeRanks]) -> int:
        return min(len(self.harder[size] & left), len(self.easier[size] & left))


def _is_no_harder(easier: SizeRanks, harder: SizeRanks, ordered: Sequence[bool]) -> bool:
    return all(a <= b if way else a == b for a, b, way in zip(easier, harder, ordered, strict=True))
