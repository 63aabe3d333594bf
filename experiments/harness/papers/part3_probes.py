"""Tables and panels of claim 3.4: what the P-probe and the Q-probe read (Part 3.1, arXiv 2309.14316, Figures 5 and 7;
probing/knowledge/fact_probes.py)."""

from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_reporting
from experiments.harness.papers.numbers import paper_number
from experiments.harness.papers.part3_prompts import answer_rows
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import ClaimList
from experiments.harness.reporting.rows import mean_by_seed
from experiments.harness.statistics.estimates import difference_of
from synth.bio.value_lists import ATTRIBUTES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

SINGLE_WORDING, MANY_WORDINGS, UNTRAINED = "single", "multi5+permute", "untrained"
LATER_ATTRIBUTES = ATTRIBUTES[1:]  # one wording begins with the birth date, which so follows the name in every case


# ---- tables ----------------------------------------------------------------------------------------------------
def accuracy_at_name(table: "DataFrame", probe: str, case: str) -> "Series":
    """By seed, a probe's mean accuracy over LATER_ATTRIBUTES where only the name has been read."""
    rows = answer_rows(table, probe, case=case, position=0)
    return mean_by_seed(rows[rows["attribute"].isin(LATER_ATTRIBUTES)], "accuracy")


def accuracy_before_value(table: "DataFrame") -> "Series":
    """By seed, the P-probe's mean accuracy on LATER_ATTRIBUTES, each just before its value, in the model of one
    wording."""
    rows = answer_rows(table, "PProbe", case=SINGLE_WORDING)
    own = rows["attribute"].map({name: place for place, name in enumerate(ATTRIBUTES)})
    return mean_by_seed(rows[(rows["position"] == own) & (own > 0)], "accuracy")


def paper_p_probe(case: str, attribute: str, position: int) -> float:
    """The paper's P-probe accuracy on the first word of a value."""
    return paper_number("3.1", "Figure 5", f"{case}: {attribute}", f"position {position}")


def paper_at_name(probe: str, case: str) -> float:
    """The paper's number for `accuracy_at_name`."""
    found = [
        paper_number("3.1", "Figure 7", case, f"whole {name}") if probe == "QProbe" else paper_p_probe(case, name, 0)
        for name in LATER_ATTRIBUTES
    ]
    return round(sum(found) / len(found), 4)


def paper_before_value() -> float:
    """The paper's number for `accuracy_before_value`."""
    found = [paper_p_probe(SINGLE_WORDING, name, k) for k, name in enumerate(ATTRIBUTES) if k > 0]
    return round(sum(found) / len(found), 4)


# ---- panels ----------------------------------------------------------------------------------------------------
def plot_matrix(axes: "Axes", table: "DataFrame", case: str) -> None:
    """The P-probe at six positions (columns) for six facts (rows), in percent; below in brackets the paper's."""
    rows = answer_rows(table, "PProbe", case=case)
    means = rows.groupby(["attribute", "position"])["accuracy"].mean().unstack()
    means = means.reindex(index=list(ATTRIBUTES), columns=range(len(ATTRIBUTES)))
    axes.imshow(means.to_numpy(float), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for k, name in enumerate(ATTRIBUTES):
        for position in range(len(ATTRIBUTES)):
            _write_cell(axes, means.loc[name, position], k, position, case)
        if case == SINGLE_WORDING:
            _frame_cell(axes, k)
    axes.set_yticks(range(len(ATTRIBUTES)), [_name_row(table, case, name) for name in ATTRIBUTES], fontsize=9)
    axes.set_xticks(range(len(ATTRIBUTES)))
    axes.grid(visible=False)
    axes.set(title=f"P-probe, %: {part3_reporting.LABELS[case]}", xlabel="values written before this position")


def _name_row(table: "DataFrame", case: str, attribute: str) -> str:
    """The fact, and in percent the higher of its floors: the share of its most frequent value, and what the probe reads
    off the name in an untrained model."""
    majority = answer_rows(table, "PProbe", case=case, attribute=attribute)["majority"]
    untrained = answer_rows(table, "PProbe", case=UNTRAINED, attribute=attribute, position=0)["accuracy"]
    floors = [part.mean() for part in (majority, untrained) if len(part)]
    return f"{attribute}\nfloor {100 * max(floors):.0f}" if floors else attribute


def _write_cell(axes: "Axes", share: float, k: int, position: int, case: str) -> None:
    if share != share:  # not measured
        return
    text = f"{100 * share:.0f}\n({100 * paper_p_probe(case, ATTRIBUTES[k], position):.0f})"
    axes.text(position, k, text, ha="center", va="center", fontsize=9, color="white" if share > 0.6 else "black")


def _frame_cell(axes: "Axes", k: int) -> None:
    """Mark the cell just before the value, in biographies that all have the same order."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((k - 0.48, k - 0.48), 0.96, 0.96, fill=False, edgecolor="black", linewidth=1.5))


def plot_q_probe(axes: "Axes", table: "DataFrame") -> None:
    """The Q-probe by fact, a colour per case; dotted: the most frequent value."""
    rows = answer_rows(table, "QProbe").dropna(subset=["accuracy"])
    order, estimate = list(LATER_ATTRIBUTES), part3_reporting.share_estimator(rows, "n")
    labels = {**part3_reporting.LABELS, UNTRAINED: "untrained model"}
    style: dict[str, Any] = {"labels": labels, "legend": False}
    limits, cases = part3_reporting.SHARES, list(dict.fromkeys(rows["case"]))
    figures.plot_means_with_ci(axes, rows, "attribute", "accuracy", "case", order, estimate, limits, **style)
    larger = part3_reporting.is_larger_task(table)
    for place, name in enumerate(order):
        known = [case for case in cases if case != UNTRAINED]
        paper = {case: paper_number("3.1", "Figure 7", case, f"whole {name}") for case in known}
        figures.plot_paper_by_hue(axes, place, cases, paper, larger, markersize=7)
        figures.plot_chance_marks(axes, {place: rows.loc[rows["attribute"] == name, "majority"].mean()}, 0.45)
    figures.plot_paper_crosses(axes, [], larger_task=larger)
    axes.set(title="Q-probe: off the name alone", ylabel="share of whole values read right")
    figures.legend_outside(axes)


# ---- claims ----------------------------------------------------------------------------------------------------
MOST = 0.5  # of the scale, between hardly anything and nearly all


def add_claims(made: ClaimList, table: "DataFrame") -> None:
    """Add the lines of claim 3.4 to those of an experiment."""
    gates = (part3_reporting.surname_gate(str(table["scale"].iloc[0])),)
    rule, later = "above 0.5: most of the scale", "mean of all facts but the first"
    for probe, what, primary in (("QProbe", "Q-probe, whole values", True), ("PProbe", "P-probe, first words", False)):
        many, one = (accuracy_at_name(table, probe, case) for case in (MANY_WORDINGS, SINGLE_WORDING))
        paper = paper_at_name(probe, MANY_WORDINGS) - paper_at_name(probe, SINGLE_WORDING)
        name = f"{what} read off the name, {later}: five wordings, shuffled, minus one wording"
        gap = difference_of(many, one, low=-1.0, high=1.0)
        made.add("3.4", name, gap, round(paper, 4), rule, above=MOST, primary=primary, gates=gates)
    written = accuracy_before_value(table)
    gap = difference_of(written, accuracy_at_name(table, "PProbe", SINGLE_WORDING), low=-1.0, high=1.0)
    paper = paper_before_value() - paper_at_name("PProbe", SINGLE_WORDING)
    name = f"P-probe, first words, one wording, {later}: read just before the value minus off the name"
    made.add("3.4", name, gap, round(paper, 4), rule, above=MOST, gates=gates)
