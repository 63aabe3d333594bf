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
    """The sizes of a grid, what is known of them, and the next to try.

    ordered: for every field whether its values go from easy to hard; sizes that differ in another field say nothing
    about each other.
    """

    def __init__(self, sizes: Sequence[Size], ordered: Sequence[bool]) -> None:
        self.sizes, self.ordered = list(sizes), tuple(ordered)
        self.known: dict[Size, Verdict] = {}

    def tell(self, size: Size, verdict: Verdict) -> None:
        self.known[size] = verdict

    def presumed(self, size: Size) -> Verdict | None:
        """What is known of a size or follows from others; None where it has to be tried."""
        if size in self.known:
            return self.known[size]
        if any(verdict == "floor" and self._leq(other, size) for other, verdict in self.known.items()):
            return "floor"
        if any(verdict == "ceiling" and self._leq(size, other) for other, verdict in self.known.items()):
            return "ceiling"
        return None

    def left(self) -> list[Size]:
        """The sizes that have still to be tried."""
        return [size for size in self.sizes if self.presumed(size) is None]

    def next(self) -> Size | None:
        """The easiest size of all that can be compared, for nothing is learned above it when it is at floor; then the
        one whose floor or ceiling, whichever tells less, would decide most others. None at the end."""
        left = self.left()
        lowest = [size for size in left if not any(self._leq(other, size) for other in self.sizes if other != size)]
        return lowest[0] if lowest else max(left, key=lambda size: self._decided(size, left), default=None)

    def _decided(self, size: Size, left: Sequence[Size]) -> int:
        above = sum(self._leq(size, other) for other in left)
        below = sum(self._leq(other, size) for other in left)
        return min(above, below)

    def _leq(self, easier: Size, harder: Size) -> bool:
        return all(a <= b if way else a == b for a, b, way in zip(easier, harder, self.ordered, strict=True))
