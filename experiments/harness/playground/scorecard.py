"""Score cards: a panel for each task, a row for each architecture, a dot for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from experiments.harness.playground import comparison
from experiments.harness.playground.comparison import ScoreColumn
from experiments.harness.playground.task_suite import has_held_out_tests
from experiments.harness.reporting import figures
from experiments.harness.statistics.estimates import Interval, mean_of
from probing.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

READING = (
    "Dots: seeds (crosses: diverged; grey: other learning rates); upright bars: means; lines: 90% intervals of the mean"
)
AXES = {
    "correct": "share of right answers",
    "bits_unclamped": "bits learned per parameter",
    "valid_0": "share of valid sentences",
}
ROW_HEIGHT, MAX_ROWS_HEIGHT, PANEL_WIDTH = 0.36, 3.0, 5.6  # inches
LETTERS = 9.5  # points


def plot_task(
    axes: "Axes",
    table: "DataFrame",
    score: ScoreColumn,
    order: Sequence[str],
    by: str = "architecture",
    paper: Mapping[str, float] | None = None,
    reference: str | None = None,
    color: Any = None,
) -> None:
    """Plot one task from the rows of `ScoreColumn.select`; order: values of the column `by`, from the top down.

    paper: the paper's value for some rows, measured on a larger task, as a hollow diamond below the row. reference: row
    from which the others differ by what stands at the right, with the 90% interval of the difference paired by seed.
    color: of all rows, by default each architecture's own.
    """
    best, run = comparison.at_best_lr(table, [by, "part"]), set(table[by])
    rows = {name: place for place, name in enumerate(order)}
    for name, place in rows.items():
        dots = _seed_positions(table[table[by] == name], place)
        axes.plot(*dots, ".", color=figures.BASELINE_COLOR, alpha=0.35, markersize=4, zorder=1)
        _plot_row(axes, best[best[by] == name], place, score, color or figures.color_of(name))
    crosses = [(value, rows[name] + 0.2) for name, value in (paper or {}).items() if name in run & set(rows)]
    figures.plot_paper_crosses(axes, crosses, larger_task=True, markersize=6, label="paper" if crosses else "")
    _write_margin(axes, best, rows, reference, by, score)
    floor = table["floor"].median() if len(table) else 0.0
    axes.axvline(floor, color=figures.BASELINE_COLOR, linestyle=":", linewidth=1.5, zorder=0)
    axes.set_xlabel(f"{AXES.get(score.column, score.column)} (dotted: knowing nothing, {floor:.2g})", fontsize=LETTERS)
    _end_panel(axes, order, score)


def _end_panel(axes: "Axes", order: Sequence[str], score: ScoreColumn) -> None:
    """Title, rows, and the x-axis from 0 to where the score can end."""
    axes.set_yticks(range(len(order)), order, fontsize=LETTERS)
    axes.set(ylim=(max(len(order), 1) - 0.4, -0.6), title=score.title)
    axes.grid(axis="x", color="#dddddd")
    axes.grid(axis="y", visible=False)
    low, high = score.limits
    figures.end_axis(axes, low if isfinite(low) else min(axes.get_xlim()[0], 0.0), high, "x")


def _write_margin(
    axes: "Axes", best: "DataFrame", rows: Mapping[str, int], reference: str | None, by: str, score: ScoreColumn
) -> None:
    """At the right of each row its difference from the reference with the interval, or that it was not run."""
    run = set(best[by])
    for name, place in rows.items():
        if name not in run:
            words = "not run"
        elif name == reference:
            words = f"minus {reference}:"
        else:
            gain = comparison.paired_gain(best, name, reference, by, score.limits) if reference else None
            words = format_difference(gain.interval()) if gain else ""
        across = axes.get_yaxis_transform()
        axes.text(1.02, place, words, transform=across, fontsize=LETTERS, color=figures.PAPER_COLOR, va="center")


def format_difference(found: Interval) -> str:
    """A difference with its interval, as in "+0.65 [0.59, 0.71]"; a single seed has no interval."""
    mean, low, high = (round(value, 2) + 0.0 for value in (found.mean, found.low, found.high))  # + 0.0: no "-0.00"
    limits = f" [{low:.2f}, {high:.2f}]" if found.n > 1 else ""
    return f"{mean:+.2f}{limits}".replace("-", "\u2212")


def _seed_positions(table: "DataFrame", place: float) -> tuple[Any, Any]:
    """x and y of the seeds' dots: the score, and `place` with an offset that separates equal scores."""
    seeds = table["seed_init"].rank(method="dense").to_numpy(float)
    return table["score"], place + 0.1 * (seeds - seeds.mean() if len(seeds) else seeds)


def _plot_row(axes: "Axes", table: "DataFrame", place: int, score: ScoreColumn, color: Any) -> None:
    diverged = table["diverged"].eq(True)
    for part, marker in ((table[~diverged], "o"), (table[diverged], "x")):
        axes.plot(*_seed_positions(part, place), marker, color=color, alpha=0.6, markersize=4, zorder=3)
    found = mean_of(table.groupby("seed_init")["score"].mean(), *score.limits)
    if found is None:
        return
    drawn = found.interval()
    axes.plot([drawn.mean] * 2, [place - 0.28, place + 0.28], color=color, linewidth=3, zorder=2)
    if drawn.n > 1:
        axes.plot([drawn.low, drawn.high], [place] * 2, color=color, linewidth=1.5, zorder=2)


def plot_scorecard(
    table: "DataFrame",
    scores: Mapping[str, ScoreColumn],
    order: Sequence[str],
    reference: str | None = None,
    paper: Mapping[str, Mapping[str, float]] | None = None,
    cost: ScoreColumn | None = None,
    extra_panels: int = 0,
    color: Any = None,
) -> "tuple[Any, list[Axes]]":
    """Plot a panel for each task in the table and one for the cost. Returns the figure, without title, and
    `extra_panels` empty panels for the caller to fill. color: of all rows, by default each architecture's own."""
    names = [name for name in scores if (table["task"] == name).any()]
    order = [name for name in order if (table["architecture"] == name).any()]
    count = len(names) + bool(cost) + extra_panels
    columns = 2 if count in (2, 4) else min(3 if count <= 9 else 4, count)
    height = max(min(ROW_HEIGHT * len(order), MAX_ROWS_HEIGHT) + 1.4, 3.4)
    drawing, panels = figures.subplots(columns, -(-count // columns), width=PANEL_WIDTH, height=height)
    for axes, name in zip(panels, names, strict=False):
        score, published = _titled(name, scores[name], table), (paper or {}).get(name)
        part = score.select(table[table["task"] == name])
        plot_task(axes, part, score, order, paper=published, reference=reference, color=color)
    _name_rows_once(panels[: len(names)], columns)
    if cost is not None:
        plot_cost(panels[len(names)], table, cost, order)
    for axes in panels[count:]:
        axes.set_visible(False)
    return drawing, panels[count - extra_panels : count]


def _titled(task: str, score: ScoreColumn, table: "DataFrame") -> ScoreColumn:
    """The score with a title that says where its tests were seen in training."""
    new = has_held_out_tests(task, table)
    return score if new else replace(score, title=f"{score.title},\nexpressions seen in training")


def _name_rows_once(panels: "Sequence[Axes]", columns: int) -> None:
    """Drop the names of rows where the panel at the left has the same ones."""
    rows = [[label.get_text() for label in axes.get_yticklabels()] for axes in panels]
    for number, axes in enumerate(panels):
        if number % columns and rows[number] == rows[number - 1]:
            axes.tick_params(axis="y", labelleft=False)


def plot_cost(axes: "Axes", table: "DataFrame", score: ScoreColumn, order: Sequence[str]) -> None:
    """Plot the time of a training step over that of the fastest architecture on the same task, averaged over tasks."""
    part = score.select(table)
    part = part[~part["diverged"].eq(True)]
    medians = part.groupby(["task", "architecture"], sort=False)["score"].median()
    share = (medians / medians.groupby("task").transform("min")).groupby("architecture").mean()
    shown = [name for name in order if name in share.index]
    sizes = (table["parameters"] / table["matched"]).groupby(table["architecture"]).mean()
    axes.barh(range(len(shown)), share[shown], color=[figures.color_of(name) for name in shown])
    for place, name in enumerate(shown):
        right = axes.get_yaxis_transform()
        axes.text(1.02, place, f"{share[name]:.2f}x", transform=right, va="center", fontsize=LETTERS)
    names = [f"{name} ({sizes[name]:.1%})" for name in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=LETTERS)
    axes.set(ylim=(max(len(shown), 1) - 0.4, -0.6), title=score.title)
    axes.set_xlabel("times the fastest (in brackets: parameters over the base's)", fontsize=LETTERS)


def set_texts(drawing: Any, table: "DataFrame", headline: str, protocol: str = "") -> None:
    """Set the headline, and a caption: protocol, sizes, number of seeds, how to read the card, diverged runs."""
    seeds = table.groupby(["task", "architecture", "lr"])["seed_init"].nunique()
    n = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else f"{seeds.min()}"
    sizes = table.groupby("task")["parameters"].median()
    size = f"{format_number(sizes.min())} to {format_number(sizes.max())} parameters"
    figures.set_title(drawing, headline)
    caption = f"{protocol} Scale {table['scale'].iloc[0]}, {size}, n = {n} seeds{comparison.diverged_note(table)}."
    figures.share_legend(drawing)
    figures.set_caption(drawing, f"{caption.strip()} {READING}.")
