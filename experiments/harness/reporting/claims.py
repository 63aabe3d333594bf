"""A claim: what a paper says, what we measured, and the verdict that a threshold written beforehand gives."""

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, get_args

from experiments.harness.reporting.stats import Interval
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

Verdict = Literal["reproduced", "contradicted", "undecided", "not testable here", "not built"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
NOT_HERE: Verdict = "not testable here"


@dataclass(frozen=True)
class Claim:
    """One line of the ledger.

    id: number in claims_index.csv ("1.1"); several lines may share it, told apart by `statement`, which says what
    `value` is. paper: the paper's own number for the same quantity, a text when it is no single number. threshold:
    the rule in words, written before the numbers were known, or why the claim is not testable here. exp and scale
    are filled in by the harness.
    """

    id: str
    statement: str
    exp: str = ""
    scale: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    paper: float | str | None = None
    threshold: str = ""
    verdict: Verdict = "undecided"

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UserError(f"claim {self.id}: {self.verdict!r} is no verdict; choose one of {', '.join(VERDICTS)}")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None or isnan(number) else float(number))

    @classmethod
    def of(
        cls, id: str, statement: str, measured: Interval, paper: float | str | None, threshold: str, verdict: Verdict
    ) -> "Claim":
        """The claim whose value and limits are an interval over seeds."""
        numbers = {"value": measured.mean, "low": measured.low, "high": measured.high, "n": measured.n}
        return cls(id, statement, paper=paper, threshold=threshold, verdict=verdict, **numbers)  # type: ignore[arg-type]

    def record(self) -> dict[str, Any]:
        """The fields of `claims --json`."""
        names = ("id", "exp", "scale", "value", "low", "high", "n", "paper", "verdict")
        return {name: getattr(self, name) for name in names}


def judge(measured: Interval, *, above: float | None = None, below: float | None = None) -> Verdict:
    """The verdict on "the quantity is above (or below) a threshold", from the interval over seeds.

    reproduced when the whole interval lies on the claimed side, contradicted when it lies wholly on the other,
    undecided when it holds the threshold or one seed gives no interval. With both limits given, the claim is that the
    quantity lies between them.
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


def decides(table: "DataFrame") -> bool:
    """Whether a table has a say on claims: all but smoke's."""
    return str(table["scale"].iloc[0]) != "smoke"


def weigh(
    id: str,
    statement: str,
    measured: Interval | None,
    paper: float | str | None,
    threshold: str,
    testable: bool = True,
    **limits: float,
) -> Claim:
    """The claim with its verdict: that of `judge` with these limits, or "not testable here", also without a measure."""
    if measured is None:
        return Claim(id, statement, paper=paper, threshold=threshold, verdict=NOT_HERE)
    return Claim.of(id, statement, measured, paper, threshold, judge(measured, **limits) if testable else NOT_HERE)
