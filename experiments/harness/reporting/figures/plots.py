"""Plots of tables: every seed a dot or a thin line, the mean, and the interval that the verdicts rest on."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from experiments.harness.reporting.figures.layout import end_axis, legend_outside, name_categories
from experiments.harness.reporting.figures.marks import dodge
from experiments.harness.reporting.figures.palette import colors, colors_of, is_architecture, label_of
from experiments.harness.statistics.estimates import Estimate, Interval, mean_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

Estimator = Callable[["Series"], Estimate | None]
INTERVALS = "bars and bands are 90% intervals over seeds"  # for captions: 5% on either side, as estimates.LEVEL has it
SEED_OFFSETS = (0.13, 0.34)  # of the seeds' dots to the left of their mean, as shares of a group's room
MAX_NAMED_TICKS = 12  # an axis with more different values has round numbers at its ticks


# ---- categories ------------------------------------------------------------------------------------------------
def plot_means_with_ci(
    axes: "Axes",
    table: "DataFrame",
    x: str,
    y: str,
    hue: str | None = None,
    order: Sequence[Any] | None = None,
    estimate: Estimator | None = None,
    limits: tuple[float, float] | None = None,
    *,
    labels: Mapping[Any, str] | None = None,
    legend: bool = True,
) -> dict[tuple[Any, Any], Interval]:
    """For every category of column x (and of hue): a dot per seed, the mean, and its 90% interval (5% on either side).

    Rows of one seed (column seed_init) are averaged first; without that column every row is a seed. order: the
    categories from left to right, by default in order of appearance. estimate: maps the values by seed to an Estimate,
    by default their mean with Student's interval. limits: the range that the quantity can take, where intervals and the
    axis end. labels: words for categories and groups. legend: whether to explain the groups under the panel.
    Architectures have their fixed colours. Returns the interval of every (x, hue) with a value.
    """
    table, measure = table.dropna(subset=[y]), _estimator(estimate, limits)
    categories = list(order) if order is not None else list(dict.fromkeys(table[x]))
    groups = list(dict.fromkeys(table[hue])) if hue else [None]
    hues = _hues(x, categories, hue, groups)
    drawn = {}
    for g, group in enumerate(groups):
        part = table[table[hue] == group] if hue else table
        for place, category in enumerate(categories):
            found = measure(_values_by_seed(part[part[x] == category], y))
            if found is not None:
                at, color = dodge(place, g, len(groups)), hues[group if hue else category]
                drawn[category, group] = _plot_estimate(axes, at, found, color, 0.8 / len(groups))
        if hue:
            axes.plot([], [], "o", color=hues[group], label=label_of(group, labels))
    axes.set_xlim(-0.6, len(categories) - 0.4)
    name_categories(axes, [label_of(category, labels) for category in categories])
    _finish(axes, limits, "below" if hue and legend else "")
    return drawn


def _hues(x: str, categories: Sequence[Any], hue: str | None, groups: Sequence[Any]) -> dict[Any, Any]:
    """Colours by group, or by category where there are no groups and the categories are architectures."""
    if hue:
        return colors_of(hue, groups)
    if x == "architecture" or (len(categories) > 1 and all(map(is_architecture, categories))):
        return colors_of("architecture", categories)
    return dict.fromkeys(categories, colors(1)[0])


def _plot_estimate(axes: "Axes", place: float, found: Estimate, color: Any, room: float) -> Interval:
    """Seeds as dots beside their mean, and the interval; one without an end crosses the whole panel."""
    drawn, n = found.interval(), found.n
    near, far = SEED_OFFSETS
    offsets = [room * (far - (far - near) * (k / (n - 1) if n > 1 else 1.0)) for k in range(n)]
    axes.plot([place - step for step in offsets], found.values, "o", color=color, alpha=0.4, markersize=4, zorder=2)
    half = None
    if isfinite(drawn.low) and isfinite(drawn.high):
        half = [[max(drawn.mean - drawn.low, 0.0)], [max(drawn.high - drawn.mean, 0.0)]]
    elif n > 1:
        axes.axvline(place, color=color, linestyle=":", linewidth=1.5, zorder=1)
    axes.errorbar([place], [drawn.mean], yerr=half, fmt="o", color=color, capsize=5, markersize=8, zorder=3)
    return drawn


# ---- curves ----------------------------------------------------------------------------------------------------
def plot_curves(
    axes: "Axes",
    table: "DataFrame",
    x: str,
    y: str,
    hue: str | None = None,
    colors: Mapping[Any, Any] | None = None,
    estimate: Estimator | None = None,
    limits: tuple[float, float] | None = None,
    log_x: bool = True,
    *,
    labels: Mapping[Any, str] | None = None,
    legend: bool = True,
) -> dict[tuple[Any, Any], Interval]:
    """Curves over column x, such as steps or doses: a thin line per seed, a thick one through the means, and the 90%
    interval as a band.

    Seeds, estimate, limits and labels as in `plot_means_with_ci`. colors: by group, else the fixed ones of
    architectures. log_x: a logarithmic x-axis; with a value of 0, linear below the least positive one. legend: whether
    to name the groups at the right of the panel, in the order in which their curves end. Returns the interval of every
    (x, hue).
    """
    table, measure = table.dropna(subset=[x, y]), _estimator(estimate, limits)
    groups = list(dict.fromkeys(table[hue])) if hue else [None]
    hues = dict(colors) if colors else colors_of(hue, groups)
    drawn: dict[tuple[Any, Any], Interval] = {}
    means = {}
    for group in groups:
        part = table[table[hue] == group] if hue else table
        _plot_seeds(axes, part, x, y, hues[group])
        found = {at: measure(_values_by_seed(rows, y)) for at, rows in part.groupby(x)}
        means[group] = {at: one.interval() for at, one in found.items() if one is not None}
        drawn |= {(at, group): one for at, one in means[group].items()}
    for group in sorted(groups, key=lambda group: -_last_mean(means[group])) if hue else groups:
        _plot_band(axes, means[group], hues[group], label_of(group, labels) if hue else None, limits)
    _scale_x(axes, sorted(set(table[x])), log_x)
    _finish(axes, limits, "right" if hue and legend else "")
    return drawn


def _last_mean(curve: Mapping[Any, Interval]) -> float:
    return curve[max(curve)].mean if curve else -inf


def _plot_seeds(axes: "Axes", table: "DataFrame", x: str, y: str, color: Any) -> None:
    for _, rows in table.groupby("seed_init") if "seed_init" in table else ():
        line = rows.groupby(x)[y].mean()
        axes.plot(line.index, line, "-", color=color, alpha=0.4, linewidth=0.8, zorder=2)


def _plot_band(
    axes: "Axes", curve: Mapping[Any, Interval], color: Any, label: str | None, limits: tuple[float, float] | None
) -> None:
    """The means as a thick line, and a band where the interval is known; without an end it ends where the axis does."""
    marker = "o" if len(curve) <= MAX_NAMED_TICKS else ""
    means = [one.mean for one in curve.values()]
    axes.plot(list(curve), means, "-", marker=marker, color=color, linewidth=2.2, markersize=5, label=label, zorder=3)
    low, high = limits or (-inf, inf)
    known = {at: (max(one.low, low), min(one.high, high)) for at, one in curve.items() if one.n > 1}
    known = {at: ends for at, ends in known.items() if all(map(isfinite, ends))}
    lows, highs = [ends[0] for ends in known.values()], [ends[1] for ends in known.values()]
    axes.fill_between(list(known), lows, highs, color=color, alpha=0.15, linewidth=0, zorder=1)


def _scale_x(axes: "Axes", values: Sequence[float], log_x: bool) -> None:
    """Set a logarithmic axis, with ticks at the values themselves where they are few."""
    positive = [value for value in values if value > 0]
    if log_x and positive:
        if min(values) > 0:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    if 0 < len(values) <= MAX_NAMED_TICKS:
        shown = _thin(axes, values)
        axes.set_xticks(shown, [f"{value:,g}" if value < 1e6 else f"{value:.3g}" for value in shown])
        axes.minorticks_off()


def _thin(axes: "Axes", values: Sequence[float]) -> list[float]:
    """The values without those that would stand within an eighth of the axis of the one before."""
    places = axes.transScale.transform([(value, 1.0) for value in values])[:, 0]
    kept: list[int] = []
    for k, place in enumerate(places):
        if not kept or place - places[kept[-1]] >= (places[-1] - places[0]) / 8:
            kept.append(k)
    return [values[k] for k in kept]


# ---- both ------------------------------------------------------------------------------------------------------
def _estimator(estimate: Estimator | None, limits: tuple[float, float] | None) -> Estimator:
    low, high = limits or (-inf, inf)
    return estimate or partial(mean_of, low=low, high=high)


def _values_by_seed(rows: "DataFrame", y: str) -> "Series":
    return rows.groupby("seed_init")[y].mean() if "seed_init" in rows else rows[y].reset_index(drop=True)


def _finish(axes: "Axes", limits: tuple[float, float] | None, side: str) -> None:
    """End the y-axis where the quantity ends, and put a legend at this side of the panel, "" for none."""
    if limits is not None:
        end_axis(axes, *limits)
    if side:
        legend_outside(axes, side)
