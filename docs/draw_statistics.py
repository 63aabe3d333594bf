"""Draw the power curves of docs/statistics.md and print its table of false verdicts: python docs/draw_statistics.py"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness.reporting.figures import style, subplots
from experiments.harness.statistics.power import seeds_needed
from experiments.harness.statistics.sequential import AUTO, fixed
from experiments.harness.statistics.simulation import (
    NormalMean,
    Quantity,
    Ratio,
    Share,
    ShareDifference,
    Solved,
    simulate_verdicts,
)

EFFECTS = np.linspace(0, 6, 61)
SHADES = ("#9ecae1", "#4292c6", "#2171b5", "#08306b")
DESIGNS = (fixed(3), fixed(12), AUTO)
QUANTITIES: dict[str, Quantity] = {
    "mean or paired difference, normal": NormalMean(0.0),
    "share 50% of 200, seeds spread by 10 points": Share(0.5, 200, 0.1),
    "share 90% of 200, no spread between seeds": Share(0.9, 200),
    "share 90% of 200, seeds spread by 2 points": Share(0.9, 200, 0.02),
    "share 90% of 200, seeds spread by 10 points": Share(0.9, 200, 0.1),
    "share 99% of 200, no spread between seeds": Share(0.99, 200),
    "share 99% of 200, seeds spread by 2 points": Share(0.99, 200, 0.02),
    "difference of two shares of 50%, spread by 10 points": ShareDifference(Share(0.5, 200, 0.1), Share(0.5, 200, 0.1)),
    "difference of two shares of 90%, spread by 10 and 2 points": ShareDifference(
        Share(0.9, 200, 0.1), Share(0.9, 200, 0.02)
    ),
    "solved by 50% of seeds": Solved(0.5),
    "solved by 90% of seeds": Solved(0.9),
    "ratio 1, spread of 10% of the base": Ratio(1.0, 0.1),
    "ratio 1, spread of 40% of the base": Ratio(1.0, 0.4),
}


def table_lines() -> Iterator[str]:
    """The lines of the table: per quantity and design, false "reproduced" and false "contradicted" in % of 10,000."""
    yield "| true value = threshold | 3 seeds, one look | 12 seeds, one look | looks at 3, 5, 8, 12 |"
    yield "|---|---|---|---|"
    for name, quantity in QUANTITIES.items():
        found = [simulate_verdicts(design, quantity, quantity.truth) for design in DESIGNS]
        cells = [f"{100 * shares.reproduced:.1f} and {100 * shares.contradicted:.1f}" for shares in found]
        yield f"| {name} | {' | '.join(cells)} |"


def draw() -> Figure:
    """Power by look on the left, numbers of seeds on the right, against the effect in units of the spread."""
    with style():
        figure, (left, right) = subplots(2, width=5.2, height=3.9)
        found = [simulate_verdicts(AUTO, NormalMean(effect)) for effect in EFFECTS]
        for look, shade in zip(AUTO.looks, SHADES, strict=True):
            shares = [each.reproduced_by[look] for each in found]
            left.plot(EFFECTS, shares, color=shade, linewidth=2, label=f"found by {look} seeds")
        three = [simulate_verdicts(fixed(3), NormalMean(effect)).reproduced for effect in EFFECTS]
        left.plot(EFFECTS, three, "--", color="#777777", label="3 seeds, one look only")
        _describe(left, "probability", "A true effect is found")
        left.set_ylim(0, 1)
        left.legend(loc="lower right", fontsize=9, title="looks at 3, 5, 8, 12", title_fontsize=9)
        right.plot(
            EFFECTS, [each.seeds for each in found], color=SHADES[-1], linewidth=2, label="looks at 3, 5, 8, 12: mean"
        )
        needed = [seeds_needed(effect) or np.nan for effect in EFFECTS]
        right.plot(EFFECTS, needed, "--", color="#777777", drawstyle="steps-post", label="one look, found in 80%")
        _describe(right, "seeds", "Seeds that it takes")
        right.set_ylim(0, 20)
        right.set_yticks([0, *AUTO.looks, 16, 20])
        right.legend(loc="upper right", fontsize=9)
        return figure


def _describe(axes: Axes, quantity: str, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_ylabel(quantity)
    axes.set_xlabel("effect / standard deviation between seeds")
    axes.set_xlim(0, EFFECTS[-1])


def main() -> None:
    """Write statistics.png and statistics.svg beside this file, and print the table."""
    figure = draw()
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        path = Path(__file__).with_name(f"statistics{suffix}")
        with style():  # the same bytes for the same figure
            figure.savefig(path, dpi=150, metadata=metadata)
        print(path)
    print("\n".join(table_lines()))


if __name__ == "__main__":
    main()
