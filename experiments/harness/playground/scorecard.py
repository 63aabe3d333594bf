"""Architectures side by side: a panel for each task, a row for each architecture, every seed a dot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.harness.playground import comparison
from experiments.harness.playground.comparison import Score
from experiments.harness.reporting import figures
from probing.capacity.planner_report import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

READING = (
    "small dots are seeds at the best learning rate (crosses: diverged), faint ones the other rates; upright bars are "
    "medians, lines 95% intervals of the mean, hollow diamonds the paper"
)

AXES = {"correct": "share answered right", "r": "bits learned / parameters", "valid_0": "share valid"}  # by column


def panel(
    axes: "Axes",
    table: "DataFrame",
    score: Score,
    order: Sequence[str],
    by: str = "architecture",
    paper: Mapping[str, float] | None = None,
    reference: str | None = None,
) -> None:
    """One task: `table` holds its rows as `Score.of` gives them, `by` names the rows of the panel from the top down.

    paper: its value for some of the rows, as a hollow diamond; reference: a row against which the others are tested;
    p-values of the paired test, corrected for their number, then stand at the right.
    """
    best = comparison.chosen(table, [by, "part"])
    tests = comparison.against(best, reference, by) if reference else {}
    shown = [name for name in order if (table[by] == name).any()]
    for place, name in enumerate(shown):
        axes.plot(*_dots(table[table[by] == name], place), ".", color=figures.FLOOR, alpha=0.35, markersize=4, zorder=1)
        _row(axes, best[best[by] == name], place, score, figures.colors(len(order))[list(order).index(name)])
        if paper and name in paper:
            axes.plot(paper[name], place, "D", markerfacecolor="none", color=figures.PAPER, markersize=7, zorder=4)
        if name in tests:
            right = axes.get_yaxis_transform()
            axes.text(
                1.01, place, f"p {tests[name]:.2g}", transform=right, fontsize=8, color=figures.PAPER, va="center"
            )
    floor = table["floor"].median() if len(table) else 0.0
    axes.axvline(floor, color=figures.FLOOR, linestyle=":", linewidth=1.5, zorder=0)
    axes.set_xlabel(f"{AXES.get(score.column, score.column)} (dotted: chance, {floor:.2g})", fontsize=9)
    if score.solved < 1:  # a share
        axes.set_xlim(-0.03, 1.03)
    axes.set_yticks(range(len(shown)), shown, fontsize=9)
    axes.set(ylim=(max(len(shown), 1) - 0.5, -0.5), title=score.title)
    axes.grid(axis="x", color="#dddddd")
    axes.grid(axis="y", visible=False)


def _dots(table: "DataFrame", place: float) -> tuple[Any, Any]:
    """Where the seeds stand: their scores, and heights spread a little so that equal ones are told apart."""
    seeds = table["seed_init"].rank(method="dense").to_numpy(float)
    return table["score"], place + 0.12 * (seeds - seeds.mean() if len(seeds) else seeds)


def _row(axes: "Axes", table: "DataFrame", place: int, score: Score, color: Any) -> None:
    lost = table["diverged"].eq(True)
    for part, mark in ((table[~lost], "o"), (table[lost], "x")):
        axes.plot(*_dots(part, place), mark, color=color, alpha=0.7, markersize=4, zorder=3)
    if not len(table):
        return
    found = comparison.summary(table["score"], score.solved)
    axes.plot([found.median] * 2, [place - 0.3, place + 0.3], color=color, linewidth=3, zorder=2)
    if found.mean.n > 1:
        axes.plot([found.mean.low, found.mean.high], [place + 0.34] * 2, color=color, linewidth=1.5, zorder=2)


def card(
    table: "DataFrame",
    scores: Mapping[str, Score],
    order: Sequence[str],
    reference: str | None = None,
    paper: Mapping[str, Mapping[str, float]] | None = None,
    cost: Score | None = None,
    beside: int = 0,
) -> "tuple[Any, list[Axes]]":
    """A panel for each task in the table, and one for the cost: the figure, not yet titled, and so many panels `beside`
    those for the caller to fill."""
    names = [name for name in scores if (table["task"] == name).any()]
    count = len(names) + bool(cost) + beside
    columns = min(3 if count <= 6 else 4, count)
    drawing, panels = figures.canvas(columns, -(-count // columns), width=5.6, height=0.34 * len(order) + 1.9)
    for axes, name in zip(panels, names, strict=False):
        part = scores[name].of(table[table["task"] == name])
        panel(axes, part, scores[name], order, paper=(paper or {}).get(name), reference=reference)
    if cost is not None:
        cost_panel(panels[len(names)], table, cost, order)
    for axes in panels[count:]:
        axes.set_visible(False)
    return drawing, panels[count - beside : count]


def cost_panel(axes: "Axes", table: "DataFrame", score: Score, order: Sequence[str]) -> None:
    """Time of a training step, as a multiple of the cheapest architecture on the same task; parameters behind names."""
    part = score.of(table)
    part = part[~part["diverged"].eq(True)]
    medians = part.groupby(["task", "architecture"], sort=False)["score"].median()
    share = (medians / medians.groupby("task").transform("min")).groupby("architecture").mean()
    shown = [name for name in order if name in share.index]
    sizes = (table["parameters"] / table["matched"]).groupby(table["architecture"]).mean()
    axes.barh(range(len(shown)), share[shown], color=[figures.colors(len(order))[list(order).index(n)] for n in shown])
    for place, name in enumerate(shown):
        axes.text(share[name], place, f" {share[name]:.2f}x", va="center", fontsize=8, clip_on=False)
    names = [f"{name} ({sizes[name]:.1%})" for name in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=9)
    axes.set(ylim=(max(len(shown), 1) - 0.5, -0.5), title=score.title)
    axes.set_xlabel("times the fastest (parameters over the base's)", fontsize=9)


def title(drawing: Any, table: "DataFrame", what: str) -> None:
    """What was run in a line, how to read it, and how many seeds there are at least; divergence is said."""
    n = table.groupby(["task", "architecture", "lr"])["seed_init"].nunique().min()
    sizes = table.groupby("task")["parameters"].median()
    size = f"{short(sizes.min())} to {short(sizes.max())} parameters"
    figures.title(drawing, f"{what}; {size}; {READING} (n = {n}){comparison.diverged(table)}")
