"""The panels of Figure 1 of Part 3.3 (arXiv 2404.05405): bits stored over parameters, a colour for each N.

Tables have a row for each size and seed with `parameters`, `layers`, `people`, `configuration` (its name), `stored`
(bits per parameter), `r_max` and `bits_max` (what the facts hold).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from experiments.harness.papers import part3_capacity
from experiments.harness.reporting import figures
from experiments.harness.statistics.estimates import mean_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame, Series

PAPER_LINES = {2: "--", 1: "-."}  # bits per parameter at 1000 and at 100 exposures
TOP = 3.0  # bits per parameter up to which the lower panels show


def people_colors(people: Iterable[int]) -> dict[int, Any]:
    """A colour for each number of people, from dark (few) to light (many)."""
    import seaborn

    groups = sorted(set(people))
    return dict(zip(groups, seaborn.color_palette("viridis", len(groups) + 1), strict=False))


def bits_range(law: "DataFrame") -> tuple[float, float]:
    """The ends of the axis of stored bits: a fiftieth of a bit per parameter of the smallest model, and above all that
    the most people's facts hold."""
    return 0.02 * law["parameters"].min(), 1.6 * law["bits_max"].max()


def explain(axes: "Axes", hues: Mapping[int, Any]) -> None:
    """The entries of a legend for all panels: numbers of people, what their facts hold, the paper's lines."""
    for people, color in hues.items():
        axes.plot([], [], "o", color=color, label=f"{people:,} people")
    axes.plot([], [], ":", color=figures.BASELINE_COLOR, label="all that their facts hold")
    axes.plot([], [], "_", color=figures.BASELINE_COLOR, markersize=14, label="the same per parameter")
    for (rate, dashes), times in zip(PAPER_LINES.items(), (1000, 100), strict=True):
        words = f"{rate} bit{'s' * (rate > 1)} a parameter (paper, {times} exposures)"
        axes.plot([], [], dashes, color=figures.PAPER_COLOR, linewidth=1.3, label=words)


def size_axis(axes: "Axes", parameters: "Series") -> None:
    """A logarithmic axis of parameters with a margin, and ticks at powers of ten and their 1, 2 and 5 fold."""
    from matplotlib.ticker import LogLocator

    axes.set(xscale="log", xlim=(parameters.min() / 1.6, parameters.max() * 1.6), xlabel="parameters")
    wide = parameters.max() / parameters.min() > 20
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda size, _: part3_capacity.format_size(size))
    axes.minorticks_off()


def marker_of(layers: int) -> str:
    """A circle for up to two layers, a square for four, a pentagon for more."""
    return "o" if layers <= 2 else "s" if layers <= 4 else "p"


def plot_bits_over_size(axes: "Axes", part: "DataFrame", hues: Mapping[int, Any], ends: tuple[float, float]) -> None:
    """Bits stored over parameters on logarithmic axes, with the line of all facts of each number of people."""
    import numpy as np

    for (people, layers), rows in part.groupby(["people", "layers"]):
        color, marker = hues[people], marker_of(layers)
        bits = rows["stored"] * rows["parameters"]
        shown = bits > ends[0]
        axes.plot(rows["parameters"][shown], bits[shown], marker, color=color, alpha=0.4, markersize=4)
        axes.plot(rows["parameters"][~shown], np.full((~shown).sum(), 1.15 * ends[0]), "v", color=color, markersize=6)
        means = bits.groupby(rows["parameters"]).mean()
        axes.plot(means[means > ends[0]], marker, linestyle="-", color=color, markersize=8)
    for people, rows in part.groupby("people"):
        axes.axhline(rows["bits_max"].mean(), color=hues[people], linestyle=":", linewidth=1.8)
    limits = np.array(axes.get_xlim())
    for rate, dashes in PAPER_LINES.items():
        axes.plot(limits, rate * limits, dashes, color=figures.PAPER_COLOR, linewidth=1.3)
    axes.set(yscale="log", ylim=ends)
    axes.yaxis.set_major_formatter(lambda bits, _: part3_capacity.format_size(bits))


def plot_bits_per_parameter(axes: "Axes", part: "DataFrame", hues: Mapping[int, Any]) -> None:
    """Bits per parameter over parameters, every seed, mean and interval; bars over points are what the facts hold."""
    for (_, people, layers), rows in part.groupby(["configuration", "people", "layers"]):
        seeds = rows.groupby("seed_init")
        plot_estimate(axes, rows["parameters"].iloc[0], seeds["stored"].mean(), hues[people], layers)
        held = rows["r_max"].mean()
        if held < TOP:
            axes.plot(rows["parameters"].iloc[0], held, "_", color=hues[people], markersize=18, markeredgewidth=2)
    for rate, dashes in PAPER_LINES.items():
        axes.axhline(rate, linestyle=dashes, color=figures.PAPER_COLOR, linewidth=1.3, zorder=1)
    figures.end_axis(axes, min(0.0, float(part["stored"].min())), TOP)


def plot_estimate(axes: "Axes", place: float, values: "Series", color: Any, layers: int = 2) -> None:
    """Seeds as small dots left of their mean, with its interval."""
    if (found := mean_of(values)) is None:
        return
    axes.plot([place / 1.06] * len(values), values, "o", color=color, alpha=0.4, markersize=4, zorder=2)
    ends = found.interval()
    half = [[ends.mean - ends.low], [ends.high - ends.mean]] if found.n > 1 else None
    axes.errorbar(
        [place], [found.mean], yerr=half, fmt=marker_of(layers), color=color, capsize=4, markersize=7, zorder=3
    )


def plot_extraction(above: "Axes", below: "Axes", asked: "DataFrame", hues: Mapping[int, Any], at_most: float) -> None:
    """Bits stored (hollow) and brought out by questions (full) per parameter by size, and stored over brought out."""
    for (_, people), rows in asked.groupby(["configuration", "people"]):
        place, seeds = rows["parameters"].iloc[0], rows.groupby("seed_init")[["stored", "extracted"]].mean()
        above.plot(place, seeds["stored"].mean(), "o", color=hues[people], markerfacecolor="none", markersize=9)
        plot_estimate(above, place, seeds["extracted"], hues[people])
        plot_estimate(below, place, seeds["stored"] / seeds["extracted"], hues[people])
        above.axhline(2, linestyle="--", color=figures.PAPER_COLOR, linewidth=1.3, zorder=1)
    above.plot([], [], "o", color=figures.BASELINE_COLOR, markerfacecolor="none", label="stored, pronouns left out")
    figures.plot_paper_line(below, at_most, "paper, at most")
    for axes in (above, below):
        size_axis(axes, asked["parameters"])
    figures.end_axis(above, min(0.0, float(asked["extracted"].min())), TOP)
    below.set_ylim(bottom=min(0.95, below.get_ylim()[0]), top=max(1.3, below.get_ylim()[1]))
    below.set_ylabel("stored / brought out")
    above.set_title("brought out by questions")
