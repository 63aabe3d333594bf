"""Score cards: a panel for each task, a row for each architecture, a dot for each seed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.harness.playground import comparison
from experiments.harness.playground.comparison import ScoreColumn
from experiments.harness.reporting import figures
from probing.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

READING = (
    "small dots are seeds at the best learning rate (crosses: diverged), faint ones the other rates; upright bars are "
    "medians, lines 95% intervals of the mean, hollow diamonds the paper"
)

AXES = {"correct": "share answered right", "r": "bits learned / parameters", "valid_0": "share valid"}  # by column


def plot_task(
    axes: "Axes",
    table: "DataFrame",
    score: ScoreColumn,
    order: Sequence[str],
    by: str = "architecture",
    paper: Mapping[str, float] | None = None,
    reference: str | None = None,
) -> None:
    """Plot one task from the rows of `ScoreColumn.select`; order: values of the column `by`, from the top down.

    paper: the paper's value for some rows, as a hollow diamond. reference: row to test the others against; p-values of
    the paired test, Holm-corrected, stand at the right.
    """
    best = comparison.at_best_lr(table, [by, "part"])
    tests = comparison.p_values_against(best, reference, by) if reference else {}
    shown = [name for name in order if (table[by] == name).any()]
    for place, name in enumerate(shown):
        dots = _seed_positions(table[table[by] == name], place)
        axes.plot(*dots, ".", color=figures.BASELINE_COLOR, alpha=0.35, markersize=4, zorder=1)
        _plot_row(axes, best[best[by] == name], place, score, figures.colors(len(order))[list(order).index(name)])
        color = figures.PAPER_COLOR
        if paper and name in paper:
            axes.plot(paper[name], place, "D", markerfacecolor="none", color=color, markersize=7, zorder=4)
        if name in tests:
            right = axes.get_yaxis_transform()
            axes.text(1.01, place, f"p {tests[name]:.2g}", transform=right, fontsize=8, color=color, va="center")
    floor = table["floor"].median() if len(table) else 0.0
    axes.axvline(floor, color=figures.BASELINE_COLOR, linestyle=":", linewidth=1.5, zorder=0)
    axes.set_xlabel(f"{AXES.get(score.column, score.column)} (dotted: chance, {floor:.2g})", fontsize=9)
    if score.solved_threshold < 1:  # a share
        axes.set_xlim(-0.03, 1.03)
    axes.set_yticks(range(len(shown)), shown, fontsize=9)
    axes.set(ylim=(max(len(shown), 1) - 0.5, -0.5), title=score.title)
    axes.grid(axis="x", color="#dddddd")
    axes.grid(axis="y", visible=False)


def _seed_positions(table: "DataFrame", place: float) -> tuple[Any, Any]:
    """x and y of the seeds' dots: the score, and `place` with an offset that separates equal scores."""
    seeds = table["seed_init"].rank(method="dense").to_numpy(float)
    return table["score"], place + 0.12 * (seeds - seeds.mean() if len(seeds) else seeds)


def _plot_row(axes: "Axes", table: "DataFrame", place: int, score: ScoreColumn, color: Any) -> None:
    diverged = table["diverged"].eq(True)
    for part, marker in ((table[~diverged], "o"), (table[diverged], "x")):
        axes.plot(*_seed_positions(part, place), marker, color=color, alpha=0.7, markersize=4, zorder=3)
    if not len(table):
        return
    summary = comparison.summarize_seeds(table["score"], score.solved_threshold)
    axes.plot([summary.median] * 2, [place - 0.3, place + 0.3], color=color, linewidth=3, zorder=2)
    if summary.mean.n > 1:
        axes.plot([summary.mean.low, summary.mean.high], [place + 0.34] * 2, color=color, linewidth=1.5, zorder=2)


def plot_scorecard(
    table: "DataFrame",
    scores: Mapping[str, ScoreColumn],
    order: Sequence[str],
    reference: str | None = None,
    paper: Mapping[str, Mapping[str, float]] | None = None,
    cost: ScoreColumn | None = None,
    extra_panels: int = 0,
) -> "tuple[Any, list[Axes]]":
    """Plot a panel for each task in the table and one for the cost. Returns the figure, without title, and
    `extra_panels` empty panels for the caller to fill."""
    names = [name for name in scores if (table["task"] == name).any()]
    count = len(names) + bool(cost) + extra_panels
    columns = min(3 if count <= 6 else 4, count)
    drawing, panels = figures.subplots(columns, -(-count // columns), width=5.6, height=0.34 * len(order) + 1.9)
    for axes, name in zip(panels, names, strict=False):
        part = scores[name].select(table[table["task"] == name])
        plot_task(axes, part, scores[name], order, paper=(paper or {}).get(name), reference=reference)
    if cost is not None:
        plot_cost(panels[len(names)], table, cost, order)
    for axes in panels[count:]:
        axes.set_visible(False)
    return drawing, panels[count - extra_panels : count]


def plot_cost(axes: "Axes", table: "DataFrame", score: ScoreColumn, order: Sequence[str]) -> None:
    """Plot the time of a training step over that of the fastest architecture on the same task, averaged over tasks."""
    part = score.select(table)
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


def set_title(drawing: Any, table: "DataFrame", what: str) -> None:
    """Set the title: `what`, sizes, how to read the card, the smallest number of seeds, the number of diverged runs."""
    n = table.groupby(["task", "architecture", "lr"])["seed_init"].nunique().min()
    sizes = table.groupby("task")["parameters"].median()
    size = f"{format_number(sizes.min())} to {format_number(sizes.max())} parameters"
    figures.set_title(drawing, f"{what}; {size}; {READING} (n = {n}){comparison.diverged_note(table)}")
