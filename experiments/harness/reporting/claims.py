"""Claims: what a paper says, what we measured, and the verdict by a rule and gates that were written beforehand."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, get_args

from experiments.harness.statistics.estimates import Estimate, Interval, mean_of
from experiments.harness.statistics.sequential import design_of
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    Measured = Estimate | Series | None  # a plain Series by seed stands for its mean

Verdict = Literal["reproduced", "contradicted", "undecided", "not testable", "not run", "not built"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
DECIDED = ("reproduced", "contradicted")
SCALE_TOO_SMALL = "too small a scale"
Paper = float | str | None  # the paper's number, or words


@dataclass(frozen=True)
class Gate:
    """A condition without which a claim cannot be decided, measured in the table of the claim.

    what: the quantity in words, e.g. "one hop, rotary"; measured: its estimate (or mean), None where it was not run.
    The gate is passed if the mean is at least `at_least` and at most `at_most`.
    """

    what: str
    measured: "Measured | float"
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise UserError(f"the gate {self.what!r} has no limit; give at_least=, at_most= or both")

    @property
    def value(self) -> float | None:
        """The measured mean; None if nothing was measured."""
        if self.measured is None:
            return None
        if hasattr(self.measured, "interval") or hasattr(self.measured, "dropna"):
            estimate = _as_estimate(self.measured)
            return None if estimate is None or isnan(estimate.mean) else estimate.mean
        return None if isnan(value := float(self.measured)) else value

    @property
    def passed(self) -> bool:
        """Whether something was measured and lies within the limits."""
        value, low, high = self.value, self.at_least, self.at_most
        return value is not None and (low is None or value >= low) and (high is None or value <= high)

    def __str__(self) -> str:
        limits = {"at least": self.at_least, "at most": self.at_most}
        needed = " and ".join(f"{words} {limit:g}" for words, limit in limits.items() if limit is not None)
        return f"{self.what} {'not measured' if self.value is None else f'{self.value:.3g}'}, needs {needed}"


@dataclass(frozen=True)
class Claim:
    """One line of the ledger.

    id: number of a paper's claim in claims_index.csv ("1.1"), which several lines may share, or a name of one's own.
    primary: whether this line is the verdict on the claim at its scale. statement: what `value` is; value, low, high,
    n: estimate, confidence limits and number of seeds. paper: the paper's own number for the same quantity, or words.
    rule: when the line is reproduced, in words. gate: the gates that failed, with their numbers, or why the scale
    cannot decide; without_gate: what the verdict would be without them. looks: how often the seeds were looked at until
    the verdict; None for a fixed number of seeds. note: what a reader must know beside it. exp and scale are filled in
    by the harness.
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
    rule: str = ""
    verdict: Verdict = "undecided"
    primary: bool = False
    gate: str = ""
    without_gate: Verdict | None = None
    looks: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise UserError(f"claim {self.id}: {self.verdict!r} is no verdict; choose one of {', '.join(VERDICTS)}")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            object.__setattr__(self, name, None if number is None or isnan(number) else float(number))

    def to_dict(self) -> dict[str, Any]:
        """The fields that the ledger prints as JSON; None for an infinite limit."""
        names = ["id", "exp", "scale", "value", "low", "high", "n", "paper", "verdict"]
        names += ["primary", "gate", "looks", "statement", "rule", "note", "without_gate"]
        values = {name: getattr(self, name) for name in names}
        return {name: None if value in (float("inf"), float("-inf")) else value for name, value in values.items()}


def decide_verdict(measured: Interval, *, above: float | None = None, below: float | None = None) -> Verdict:
    """The verdict on "the quantity is above (or below) a threshold", from its interval over seeds.

    "reproduced" if the whole interval lies on the claimed side, "contradicted" if it lies wholly on the other, else
    "undecided", also for a single seed. With both limits, the claim is that the quantity lies between them. An interval
    that leaves out at most 5% on either side makes each of the two wrong in at most 5% of all cases. Raises UserError
    without a limit.
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


class ClaimList(list[Claim]):
    """The claims that an experiment makes from one table; none is testable at smoke."""

    def __init__(self, table: "DataFrame") -> None:
        super().__init__()
        self._conclusive = is_conclusive_scale(table)
        self._design = design_of(table)

    def add(
        self,
        id: str,
        statement: str,
        measured: "Measured",
        paper: Paper,
        rule: str,
        testable: bool = True,
        *,
        above: float | None = None,
        below: float | None = None,
        primary: bool = False,
        gates: Iterable[Gate] = (),
        note: str = "",
    ) -> None:
        """Append the claim that `measured` is above (below, between) the limits.

        Its interval has the level that the table's design gives to this number of seeds. The verdict is "not run" where
        nothing was measured, "not testable" where a gate fails, or where the experiment says that the table cannot
        decide it (testable=False; the note says why, by default that the scale is too small); else that of
        `decide_verdict`.
        """
        if any((claim.id, claim.statement) == (id, statement) for claim in self):
            raise UserError(f"claim {id} has two lines {statement!r}; word them apart")
        words: dict[str, Any] = {"paper": paper, "rule": rule, "primary": primary}
        estimate, gates = _as_estimate(measured), tuple(gates)
        if estimate is None or any(gate.value is None for gate in gates):
            missing = "; ".join(f"{gate.what} was not measured" for gate in gates if gate.value is None)
            self.append(Claim(id, statement, verdict="not run", note=missing, **words))
            return
        found = estimate.interval(self._design.level(estimate.n))
        failed = [str(gate) for gate in gates if not gate.passed]
        if not (self._conclusive and testable):
            failed.insert(0, SCALE_TOO_SMALL if testable or not note else note)
            note = note if testable else ""
        decided = decide_verdict(found, above=above, below=below)
        verdict = "not testable" if failed else decided
        numbers = {"value": found.mean, "low": found.low, "high": found.high, "n": found.n}
        about = {"gate": "; ".join(failed), "without_gate": decided if failed else None, "note": note}
        self.append(Claim(id, statement, verdict=verdict, **numbers, **about, **words))  # type: ignore[arg-type]


def _as_estimate(measured: "Measured | float") -> Estimate | None:
    if measured is None or isinstance(measured, Estimate):
        return measured
    return mean_of(measured)  # type: ignore[arg-type]
