"""Which size of a task to try next, when each try costs a training.

Sizes are tuples of ranks, 0 the easiest value of a field. What is harder in every ordered field than a size at floor is
presumed at floor, what is easier than a size at ceiling at ceiling, so that most of a grid need not be tried.
"""

from collections.abc import Sequence
from typing import Literal

Verdict = Literal["floor", "informative", "ceiling"]
Size = tuple[int, ...]
MARGIN, CEILING = 0.1, 0.9  # of the way from chance to 1; share of right answers


def judged(score: float, chance: float) -> Verdict:
    """floor up to a tenth of the way from chance to 1, ceiling from 0.9 on, in between informative."""
    if score >= CEILING:
        return "ceiling"
    return "informative" if score > chance + MARGIN * (1 - chance) else "floor"  # NaN is no sign of life


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of several models at one size: informative unless all of them are at floor or all at ceiling."""
    return verdicts[0] if len(set(verdicts)) == 1 else "informative"


class Search:
    """The sizes of a grid, what is known or presumed of them, and the next to try.

    ordered: for every field whether its values go from easy to hard; sizes that differ in another field say nothing
    about each other.
    """

    def __init__(self, sizes: Sequence[Size], ordered: Sequence[bool]) -> None:
        self.sizes = list(sizes)
        self.verdicts: dict[Size, Verdict] = {}
        self.harder = {a: {b for b in sizes if _leq(a, b, ordered)} for a in sizes}  # itself included, here and below
        self.easier = {b: {a for a in sizes if _leq(a, b, ordered)} for b in sizes}
        self.easiest = [size for size in sizes if len(self.easier[size]) == 1]

    def tell(self, size: Size, verdict: Verdict) -> None:
        """What was measured at a size, and so what is to be presumed of others."""
        spread = {"floor": self.harder[size], "ceiling": self.easier[size], "informative": {size}}[verdict]
        self.verdicts = dict.fromkeys(spread, verdict) | self.verdicts | {size: verdict}

    def left(self) -> list[Size]:
        """The sizes that have still to be tried."""
        return [size for size in self.sizes if size not in self.verdicts]

    def next(self) -> Size | None:
        """The easiest size of all that can be compared, for nothing is learned above it when it is at floor; then the
        one whose floor or ceiling, whichever tells less, would decide most others. None at the end."""
        left = self.left()
        first = [size for size in self.easiest if size not in self.verdicts]
        return first[0] if first else max(left, key=lambda size: self._decided(size, set(left)), default=None)

    def _decided(self, size: Size, left: set[Size]) -> int:
        return min(len(self.harder[size] & left), len(self.easier[size] & left))


def _leq(easier: Size, harder: Size, ordered: Sequence[bool]) -> bool:
    return all(a <= b if way else a == b for a, b, way in zip(easier, harder, ordered, strict=True))
