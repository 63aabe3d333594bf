"""How figures look and are saved: one style, our points beside the paper's values, and the same bytes for the same
table."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.reporting.stats import Interval, interval
from synth.atomic_io import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

PAPER_COLOR = "#444444"
BASELINE_COLOR = "#999999"


def style() -> AbstractContextManager:
    """A context with the suite's matplotlib style, independent of the reader's own settings."""
    import matplotlib.style

    look: dict[str, Any] = {
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#dddddd", "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
        "axes.titlesize": 12, "axes.labelsize": 11, "font.size": 11, "text.usetex": False,
        "figure.dpi": 100, "savefig.dpi": 150, "figure.constrained_layout.use": True,
        "svg.hashsalt": "physics-of-lms",  # else the names inside an svg are drawn at random
    }  # fmt: skip
    return matplotlib.style.context(["default", look])


def colors(n: int) -> list[tuple[float, float, float]]:
    """n colours that colour-blind readers can tell apart (ten differ, then they repeat)."""
    import seaborn

    return list(seaborn.color_palette("colorblind", n))


def subplots(columns: int = 1, rows: int = 1, width: float = 6.0, height: float = 4.0) -> "tuple[Figure, list[Axes]]":
    """A figure and its axes, row by row; width and height in inches are those of one panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def plot_means_with_ci(
    axes: "Axes", table: "DataFrame", x: str, y: str, hue: str | None = None, order: Sequence[Any] | None = None
) -> dict[tuple[Any, Any], Interval]:
    """For every category of column x (and of hue): a dot per seed, the mean, and its 95% interval.

    order: the categories from left to right, by default in order of appearance. Returns the interval of every (x, hue)
    with a value.
    """
    table = table.dropna(subset=[y])
    categories = list(order) if order is not None else list(dict.fromkeys(table[x]))
    groups = list(dict.fromkeys(table[hue])) if hue else [None]
    drawn = {}
    for g, (group, color) in enumerate(zip(groups, colors(len(groups)), strict=True)):
        part = table[table[hue] == group] if hue else table
        for place, category in enumerate(categories):
            values = part.loc[part[x] == category, y].to_numpy(float)
            if len(values):
                drawn[category, group] = _plot_mean_with_ci(axes, dodge(place, g, len(groups)), values, color)
        if hue:
            axes.plot([], [], "o", color=color, label=str(group))
    axes.set_xticks(range(len(categories)), [str(category) for category in categories])
    axes.set_xlim(-0.6, len(categories) - 0.4)
    if hue and groups:
        axes.legend(title=hue)
    return drawn


def dodge(place: float, number: int, groups: int) -> float:
    """The x-coordinate at which `plot_means_with_ci` puts group `number` of `groups` for the category at `place`."""
    return place + (number - (groups - 1) / 2) * 0.8 / groups


def _plot_mean_with_ci(axes: "Axes", place: float, values: Any, color: Any) -> Interval:
    found = interval(values)
    axes.plot([place] * len(values), values, "o", color=color, alpha=0.4, markersize=4, zorder=2)
    half = [[found.mean - found.low], [found.high - found.mean]] if found.n > 1 else None
    axes.errorbar([place], [found.mean], yerr=half, fmt="o", color=color, capsize=5, markersize=8, zorder=3)
    return found


def plot_paper_values(axes: "Axes", values: Mapping[Any, float], order: Sequence[Any]) -> None:
    """The paper's number for some categories: a dashed line across each, and the number under the category's name."""
    values = {category: value for category, value in values.items() if category in order}
    for category, value in values.items():
        place = list(order).index(category)
        axes.hlines(value, place - 0.35, place + 0.35, color=PAPER_COLOR, linestyle="--", linewidth=1.5, zorder=4)
    names = [f"{each}\npaper {values[each]:.3g}" if each in values else str(each) for each in order]
    axes.set_xticks(range(len(order)), names, fontsize=8)
    axes.plot([], [], "--", color=PAPER_COLOR, label="paper")


def plot_paper_crosses(axes: "Axes", crosses: Iterable[tuple[Any, Any]], label: str = "paper", **style: Any) -> None:
    """The paper's numbers as crosses at (x, y), with one entry in the legend unless label is empty."""
    for x, y in crosses:
        axes.plot(x, y, "x", color=PAPER_COLOR, zorder=4, **style)
    if label:
        axes.plot([], [], "x", color=PAPER_COLOR, label=label)


def plot_paper_by_hue(axes: "Axes", place: float, hues: Sequence, paper: Mapping[Any, float], **style: Any) -> None:
    """The paper's numbers by hue for the category at `place`, each beside our points of that hue."""
    crosses = [(dodge(place, g, len(hues)), paper[hue]) for g, hue in enumerate(hues) if hue in paper]
    plot_paper_crosses(axes, crosses, label="", **style)


def plot_chance_marks(axes: "Axes", levels: Mapping[float, float], half_width: float = 0.4, **style: Any) -> None:
    """A dotted line across each place of the x-axis, at the chance level of what stands there."""
    for place, level in levels.items():
        axes.hlines(level, place - half_width, place + half_width, color=BASELINE_COLOR, linestyle=":", **style)


def plot_paper_line(axes: "Axes", value: float, label: str = "paper") -> None:
    """A dashed line across the panel at the paper's number."""
    _plot_hline(axes, value, f"{label} {value:g}", PAPER_COLOR, "--")


def plot_baseline(axes: "Axes", value: float, label: str = "chance") -> None:
    """A dotted line across the panel at the chance level or another baseline."""
    _plot_hline(axes, value, f"{label} {value:g}", BASELINE_COLOR, ":")


def _plot_hline(axes: "Axes", value: float, label: str, color: str, dashes: str) -> None:
    axes.axhline(value, color=color, linestyle=dashes, linewidth=1.5, zorder=1)
    across = axes.get_yaxis_transform()  # x in shares of the panel, y in data
    axes.text(0.01, value, label, transform=across, color=color, fontsize=9, va="top", ha="left")


def set_title(figure: "Figure", text: str) -> None:
    """A title above all panels, broken into lines that fit the figure."""
    figure.suptitle(_wrap(figure, text, 11), fontsize=11)


def _wrap(figure: "Figure", text: str, size: float) -> str:
    letters = int(figure.get_figwidth() * 72 / (0.56 * size))  # a letter is about 0.56 of the font's size wide
    return "\n".join(textwrap.wrap(text.replace("n = ", "n\u00a0=\u00a0"), letters))


def save(figure: "Figure", folder: Path, note: str = "") -> list[Path]:
    """Write figure.png and figure.svg into a folder and return their paths.

    The bytes are the same for the same figure. note: a line under the panels.
    """
    if note:
        figure.supxlabel(_wrap(figure, note, 9), fontsize=9, color=PAPER_COLOR)
    paths = []
    for kind, metadata in {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}.items():
        picture = BytesIO()
        figure.savefig(picture, format=kind, metadata=metadata)
        paths.append(folder / f"figure.{kind}")
        write_bytes(paths[-1], picture.getvalue())
    return paths
