"""The one rule for trainings that diverged: they have no metrics, and a line that lost seeds to them has no verdict.

The experiments get their table without the rows of such runs. Leaving them out would make the rest look better than it
is, so a line that fewer seeds stand behind than the table has is not testable, and the reason says so. An experiment in
which a training may diverge as a result (it scores the floor) says KEEPS_DIVERGED = True at the top of its file; there
lines are withheld where most runs diverged, since a floor minus a floor decides nothing.
"""

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import DECIDED, Claim
from experiments.harness.run import configuration_id, run_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

MOST_DIVERGED = 0.5  # share of an experiment's runs beyond which diverged ones are no result among others


def draw_measured(module: ModuleType, table: "DataFrame") -> "Figure":
    """The figure of the runs that have metrics; words where none has."""
    measured = _measured_rows(module, table)
    if len(measured) and not _is_diverged(table).all():
        return module.figure(measured)
    figure, (axes,) = figures.subplots(width=7.0, height=2.5)
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"all {table['run'].nunique()} trainings diverged: nothing to draw", ha="center", va="center")
    return figure


def judge_measured(module: ModuleType, table: "DataFrame") -> list[Claim]:
    """The claims about the runs that have metrics, without a verdict where a line has lost seeds; none where all are
    lost."""
    lost = _is_diverged(table)
    if lost.all():
        return []
    claims = module.claims(_measured_rows(module, table))
    if not lost.any():
        return claims
    runs, n = table.loc[lost, "run"].nunique(), table["run"].nunique()
    seeds, reason = table["seed_init"].nunique(), f"seeds lost: {runs} of {n} trainings diverged"
    if _keeps_diverged(module):
        most = f"{runs} of {n} trainings diverged" if runs > MOST_DIVERGED * n else ""
        return [_withhold(claim, most) for claim in claims]
    # the least or most of several configurations does not show that one of them is gone
    gone = _has_lost_configuration(module, table)
    return [_withhold(claim, reason if gone or (claim.n or seeds) < seeds else "") for claim in claims]


def _has_lost_configuration(module: ModuleType, table: "DataFrame") -> bool:
    """Whether all seeds of a configuration diverged."""
    runs = getattr(module, "runs", None)
    if runs is None:
        return False
    configurations = {run_id(run): configuration_id(run) for run in runs(str(table["scale"].iloc[0]))}
    rows = table.assign(configuration=table["run"].map(configurations), lost=_is_diverged(table))
    return bool(rows.dropna(subset=["configuration"]).groupby("configuration")["lost"].all().any())


def _withhold(claim: Claim, reason: str) -> Claim:
    """The claim without its verdict, for this reason if there is one."""
    if not reason or claim.verdict not in (*DECIDED, "undecided", "not testable"):
        return claim
    decided = claim.without_gate or (claim.verdict if claim.verdict != "not testable" else None)
    gate = "; ".join(part for part in (reason, claim.gate) if part)
    return replace(claim, verdict="not testable", gate=gate, without_gate=decided)


def _measured_rows(module: ModuleType, table: "DataFrame") -> "DataFrame":
    return table if _keeps_diverged(module) else table[~_is_diverged(table)]


def _keeps_diverged(module: ModuleType) -> bool:
    return bool(getattr(module, "KEEPS_DIVERGED", False))


def _is_diverged(table: "DataFrame") -> "Series":
    if "diverged" not in table:
        return table["run"].isna()  # no run did: a table has the column only where one did
    return table["diverged"].eq(True)
