"""What stands beside our points: floor, ceiling, and the paper's numbers, all labelled off the data.

A paper's number that was measured on a larger task is a hollow diamond, and stands apart from our points where that can
be: it is there for the order of the conditions, not for its height.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.harness.reporting.figures.layout import figure_of, legible, name_categories
from experiments.harness.reporting.figures.palette import (
    BASELINE_COLOR,
    PAPER_COLOR,
    colors_of,
    is_architecture,
    label_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN_LETTERS = 16  # a label in the right margin is broken into lines of so many letters
LARGER_TASK = "paper, a larger task"


def dodge(place: float, number: int, groups: int) -> float:
    """The x-coordinate at which `plot_means_with_ci` puts group `number` of `groups` for the category at `place`."""
    return place + (number - (groups - 1) / 2) * 0.8 / groups


# ---- lines across the panel ------------------------------------------------------------------------------------
def plot_floor(axes: "Axes", value: float, label: str = "chance") -> None:
    """A dotted line at the score of a model that knows nothing, labelled in the right margin."""
    _plot_hline(axes, value, label, BASELINE_COLOR, ":")


def plot_ceiling(axes: "Axes", value: float, label: str = "ceiling") -> None:
    """A dash-dotted line at the best score that can be reached, such as an exact posterior's, labelled in the right
    margin."""
    _plot_hline(axes, value, label, BASELINE_COLOR, "-.")


def plot_baseline(axes: "Axes", value: float, label: str = "chance") -> None:
    """A dotted line at a baseline; as `plot_floor`."""
    plot_floor(axes, value, label)


def plot_paper_line(axes: "Axes", value: float, label: str = "paper") -> None:
    """A dashed line across the panel at the paper's number, labelled in the right margin."""
    _plot_hline(axes, value, label, PAPER_COLOR, "--")


def plot_chance_marks(axes: "Axes", levels: Mapping[float, float], half_width: float = 0.4, **style: Any) -> None:
    """A dotted line across each place of the x-axis, at the chance level of what stands there."""
    for place, level in levels.items():
        axes.hlines(level, place - half_width, place + half_width, color=BASELINE_COLOR, linestyle=":", **style)


def _plot_hline(axes: "Axes", value: float, label: str, color: str, dashes: str) -> None:
    from experiments.harness.reporting.figures.engine import MARGIN

    axes.axhline(value, color=color, linestyle=dashes, linewidth=1.5, zorder=1)
    text = "\n".join(textwrap.wrap(f"{label} {value:.3g}", MARGIN_LETTERS))
    across = axes.get_yaxis_transform()  # x in shares of the panel, y in data
    size = legible(figure_of(axes), 9.0)
    dark = PAPER_COLOR  # the grey of a baseline's line is too pale for letters
    axes.text(1.01, value, text, transform=across, color=dark, fontsize=size, va="center", ha="left", gid=MARGIN)


# ---- the paper's numbers ---------------------------------------------------------------------------------------
def plot_paper_values(
    axes: "Axes",
    values: Mapping[Any, float],
    order: Sequence[Any],
    larger_task: bool = False,
    labels: Mapping[Any, str] | None = None,
) -> None:
    """The paper's number for some of the categories in `order`, and the number under the category's name.

    A dashed line across each; with larger_task hollow diamonds in a strip of their own at the right of the panel, in
    the order of the categories. labels: words for categories.
    """
    values = {category: values[category] for category in order if category in values}
    words = [label_of(each, labels) for each in order]
    names = [f"{name}\npaper {values[c]:.3g}" if c in values else name for c, name in zip(order, words, strict=True)]
    if larger_task and values:
        _plot_strip(axes, values, len(order))
        names.append(LARGER_TASK)
    for category, value in () if larger_task else values.items():
        place = list(order).index(category)
        axes.hlines(value, place - 0.35, place + 0.35, color=PAPER_COLOR, linestyle="--", linewidth=1.5, zorder=4)
    name_categories(axes, names)
    if not larger_task:
        axes.plot([], [], "--", color=PAPER_COLOR, label="paper")


def _plot_strip(axes: "Axes", values: Mapping[Any, float], place: int) -> None:
    """Hollow diamonds at one place of the x-axis, parted from the rest by a line."""
    fixed = colors_of(None, values) if all(map(is_architecture, values)) else dict.fromkeys(values, PAPER_COLOR)
    for number, (name, value) in enumerate(values.items()):
        at = dodge(place, number, len(values))
        axes.plot(at, value, "D", markerfacecolor="none", color=fixed[name], markersize=7, zorder=4)
    axes.axvline(place - 0.5, color=BASELINE_COLOR, linewidth=0.8)
    axes.set_xlim(-0.6, place + 0.6)


def plot_paper_crosses(
    axes: "Axes", crosses: Iterable[tuple[Any, Any]], label: str = "paper", larger_task: bool = False, **style: Any
) -> None:
    """The paper's numbers at (x, y) as crosses, with larger_task as hollow diamonds.

    They have one entry in the legend, unless label is empty.
    """
    shape = {"marker": "D", "markerfacecolor": "none"} if larger_task else {"marker": "x"}
    look: dict[str, Any] = {"linestyle": "none", "color": PAPER_COLOR, **shape, **style}
    for x, y in crosses:
        axes.plot(x, y, zorder=4, **look)
    if label:
        axes.plot([], [], label=LARGER_TASK if larger_task and label == "paper" else label, **look)


def plot_paper_by_hue(
    axes: "Axes", place: float, hues: Sequence, paper: Mapping[Any, float], larger_task: bool = False, **style: Any
) -> None:
    """The paper's numbers by hue for the category at `place`, each beside our points of that hue."""
    crosses = [(dodge(place, g, len(hues)), paper[hue]) for g, hue in enumerate(hues) if hue in paper]
    plot_paper_crosses(axes, crosses, "", larger_task, **style)
