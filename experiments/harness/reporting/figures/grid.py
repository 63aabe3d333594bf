"""Which settings were chosen for each arm: the criterion over the grid of learning rates, as a small heat map."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.harness.reporting.figures.layout import legend_outside, set_caption, set_title, subplots
from experiments.harness.reporting.figures.palette import VERMILION, label_of
from probing.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

SETTING_WORDS = {"lr": "learning rate", "batch_size": "batch", "batch": "batch", "weight_decay": "weight decay"}
NO_SETTING = ("arm", "seed", "criterion", "criterion_name", "chosen", "edge")
CHOSEN_COLOR, EDGE_COLOR = "black", VERMILION


def draw_grid(table: "DataFrame") -> "Figure":
    """The figure of an experiment's grids: a panel for each criterion (column `criterion_name`), as `plot_grid` draws
    it."""
    parts = {str(name): part for name, part in table.groupby("criterion_name", sort=False)}
    rows = max(part["arm"].nunique() for part in parts.values())
    figure, panels = subplots(len(parts), width=8.0, height=1.8 + 0.32 * rows)
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        plot_grid(axes, part)
        axes.set_title(label_of(name))
    set_title(figure, "Which settings were chosen?")
    set_caption(
        figure, "Means over the seeds of the trials, none of which is reported; shades compare settings of one arm."
    )
    return figure


def plot_grid(axes: "Axes", grid_table: "DataFrame", labels: Mapping[Any, str] | None = None) -> None:
    """A row per arm and a column per setting: the criterion's mean over seeds as a number, shaded within the arm.

    Cells that were not tried are grey. The chosen one has a frame: black, or vermilion and dashed where it lies at the
    edge of the grid, so that a better one may lie beyond. grid_table: columns `arm`, `seed`, `criterion` (NaN where the
    trial diverged), `chosen`, `edge` (true or false), and the settings, which are the other columns that differ within
    an arm. labels: words for arms.
    """
    settings = _setting_columns(grid_table)
    means = grid_table.groupby(["arm", *settings], sort=False)["criterion"].mean().unstack(settings)
    means = means.reindex(list(dict.fromkeys(grid_table["arm"]))).sort_index(axis="columns")
    _shade(axes, means)
    places = {key if isinstance(key, tuple) else (key,): number for number, key in enumerate(means.columns)}
    rows = {arm: number for number, arm in enumerate(means.index)}
    for row in grid_table.drop_duplicates(["arm", *settings]).to_dict("records"):
        _draw_cell(axes, places[tuple(row[s] for s in settings)], rows[row["arm"]], means, row)
    names = ["\n".join(map(_format_setting, name)) for name in places]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_yticks(range(len(means)), [label_of(arm, labels) for arm in means.index], fontsize=9)
    axes.set_xlabel(", ".join(SETTING_WORDS.get(name, name) for name in settings))
    _explain_frames(axes, bool(grid_table["edge"].any()))


def _setting_columns(table: "DataFrame") -> list[str]:
    others = [name for name in table if name not in NO_SETTING]
    found = [name for name in others if (table.groupby("arm")[name].nunique(dropna=False) > 1).any()]
    return [str(name) for name in found]


def _shade(axes: "Axes", means: "DataFrame") -> None:
    """Shade cells by their place between the least and the largest value of their row."""
    values = means.to_numpy(float)
    least = means.min(axis=1).to_numpy(float)[:, None]
    spread = means.max(axis=1).to_numpy(float)[:, None] - least
    shades = (values - least) / (spread + (spread == 0))
    axes.set_facecolor("#dddddd")
    axes.imshow(shades, cmap="Blues", aspect="auto", vmin=0, vmax=2)  # its pale half, on which numbers show
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _draw_cell(axes: "Axes", column: int, row: int, means: "DataFrame", about: Mapping[Any, Any]) -> None:
    """Write a cell's mean, or that its training diverged, and frame it if it was chosen."""
    from matplotlib.patches import Rectangle

    value = means.iloc[row, column]
    text = "diverged" if value != value else f"{value:.3g}"
    axes.text(column, row, text, ha="center", va="center", fontsize=9)
    if about["chosen"]:
        axes.add_patch(
            Rectangle((column - 0.46, row - 0.42), 0.92, 0.84, fill=False, linewidth=2, **_frame(about["edge"]))
        )


def _frame(edge: bool) -> dict[str, Any]:
    return {"edgecolor": EDGE_COLOR, "linestyle": "--"} if edge else {"edgecolor": CHOSEN_COLOR}


def _explain_frames(axes: "Axes", any_edge: bool) -> None:
    from matplotlib.patches import Rectangle

    for edge, words in {False: "chosen", True: "chosen, at the edge of the grid"}.items():
        if any_edge or not edge:
            axes.add_patch(Rectangle((0, 0), 0, 0, fill=False, linewidth=2, label=words, **_frame(edge)))
    legend_outside(axes)


def _format_setting(value: Any) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return format_number(value) if value >= 1 else f"{value:.2g}"
