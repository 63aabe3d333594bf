"""Figures of the suite: every seed, the interval that the verdicts rest on, floor, ceiling and the paper's number.

plots: means and curves of a table; layout: page, titles, captions, legends, files; marks: floor, ceiling, paper; grid:
settings that were tried; palette: colours and words; engine: how matplotlib places them; checks: text that overlaps.
"""

from experiments.harness.reporting.figures.grid import draw_grid, plot_grid
from experiments.harness.reporting.figures.layout import (
    end_axis,
    legend_outside,
    name_categories,
    save,
    set_caption,
    set_title,
    share_legend,
    style,
    subplots,
)
from experiments.harness.reporting.figures.marks import (
    dodge,
    plot_baseline,
    plot_ceiling,
    plot_chance_marks,
    plot_floor,
    plot_paper_by_hue,
    plot_paper_crosses,
    plot_paper_line,
    plot_paper_values,
)
from experiments.harness.reporting.figures.palette import (
    BASELINE_COLOR,
    PAPER_COLOR,
    color_of,
    colors,
    colors_of,
    is_architecture,
    label_of,
)
from experiments.harness.reporting.figures.plots import INTERVALS, plot_curves, plot_means_with_ci

__all__ = [
    "BASELINE_COLOR",
    "INTERVALS",
    "PAPER_COLOR",
    "color_of",
    "colors",
    "colors_of",
    "dodge",
    "draw_grid",
    "end_axis",
    "is_architecture",
    "label_of",
    "legend_outside",
    "name_categories",
    "plot_baseline",
    "plot_ceiling",
    "plot_chance_marks",
    "plot_curves",
    "plot_floor",
    "plot_grid",
    "plot_means_with_ci",
    "plot_paper_by_hue",
    "plot_paper_crosses",
    "plot_paper_line",
    "plot_paper_values",
    "save",
    "set_caption",
    "set_title",
    "share_legend",
    "style",
    "subplots",
]
