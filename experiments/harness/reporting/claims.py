"""Claims: what a paper says, what we measured, and the verdict by a threshold that was written beforehand."""

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, get_args

from experiments.harness.reporting.stats import Interval, interval_or_none
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    Measured = Interval | Series | None  # an interval over seeds, or one value per seed

Verdict = Literal["reproduced", "contradicted", "undecided", "not testable here", "not built"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
Paper = float | str | None  # the paper's number, or words
NOT_TESTABLE: Verdict = "not testable here"


@dataclass(frozen=True)
class Claim:
    """One line of the ledger.

    id: number in claims_index.csv ("1.1"), which several lines may share; statement: what `value` is; value, low, high,
    n: mean, 95% limits and number of seeds; paper: the paper's own number for the same quantity, or words; threshold:
    the rule in words, or why the claim is not testable here. exp and scale are filled in by the harness.
    """

    id: str
    statement: str
    exp: str = ""
    scale: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    paper: Paper = None
    threshold: str = ""
    verdict: Verdict = "undecided"

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UserError(f"claim {self.id}: {self.verdict!r} is no verdict; choose one of {', '.join(VERDICTS)}")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None or isnan(number) else float(number))

    @classmethod
    def from_interval(
        cls, id: str, statement: str, measured: Interval, paper: Paper, threshold: str, verdict: Verdict
    ) -> "Claim":
        """The claim whose value and limits are those of an interval over seeds."""
        numbers = {"value": measured.mean, "low": measured.low, "high": measured.high, "n": measured.n}
        return cls(id, statement, paper=paper, threshold=threshold, verdict=verdict, **numbers)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """The fields that the ledger prints as JSON."""
        names = ("id", "exp", "scale", "value", "low", "high", "n", "paper", "verdict")
        return {name: getattr(self, name) for name in names}


def decide_verdict(measured: Interval, *, above: float | None = None, below: float | None = None) -> Verdict:
    """The verdict on "the quantity is above (or below) a threshold", from its interval over seeds.

    "reproduced" if the whole interval lies on the claimed side, "contradicted" if it lies wholly on the other, else
    "undecided", also for a single seed. With both limits, the claim is that the quantity lies between them. Raises
    UserError without a limit.
    """
    if above is None and below is None:
        raise UserError("a verdict needs a threshold; give above=, below= or both")
    if measured.n < 2:
        return "undecided"
    low_limit = float("-inf") if above is None else above
    high_limit = float("inf") if below is None else below
    if low_limit < measured.low and measured.high < high_limit:
        return "reproduced"
    if measured.high < low_limit or measured.low > high_limit:
        return "contradicted"
    return "undecided"


def is_conclusive_scale(table: "DataFrame") -> bool:
    """Whether claims can be decided from a table: at every scale but smoke."""
    return str(table["scale"].iloc[0]) != "smoke"


def make_claim(
    id: str, statement: str, measured: "Measured", paper: Paper, threshold: str, testable: bool = True, **limits: float
) -> Claim:
    """The claim on an interval or on one value per seed, with the verdict of `decide_verdict` for these limits.

    The verdict is "not testable here" where nothing was measured or `testable` is False.
    """
    found = measured if measured is None or isinstance(measured, Interval) else interval_or_none(measured)
    if found is None:
        return Claim(id, statement, paper=paper, threshold=threshold, verdict=NOT_TESTABLE)
    verdict = decide_verdict(found, **limits) if testable else NOT_TESTABLE
    return Claim.from_interval(id, statement, found, paper, threshold, verdict)


class ClaimList(list[Claim]):
    """The claims that an experiment makes from one table; none is testable at smoke."""

    def __init__(self, table: "DataFrame") -> None:
        super().__init__()
        self._testable = is_conclusive_scale(table)

    def add(
        self, id: str, statement: str, measured: Any, paper: Paper, rule: str, testable: bool = True, **limits: float
    ) -> None:
        """Append the claim that `make_claim` makes with the threshold `rule`."""
        self.append(make_claim(id, statement, measured, paper, rule, self._testable and testable, **limits))

    def add_if_measured(self, id: str, statement: str, measured: "Measured", *rule: Any, **limits: Any) -> None:
        """`add`, unless nothing was measured, as in a partial table."""
        if measured is not None and (isinstance(measured, Interval) or measured.notna().any()):
            self.add(id, statement, measured, *rule, **limits)
