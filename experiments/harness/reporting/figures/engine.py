"""Where legends and labels outside their panels stand: matplotlib's constrained layout makes room for them, but does
not know where tick labels and captions end.

Imports matplotlib at once; layout.subplots loads it when a figure is made.
"""

from math import inf
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import ScaledTranslation

MARGIN_GAP = 0.2  # between texts in the right margin, as a share of their height: panels shrink a little afterwards
PAD = 5 / 72  # inches between a panel's labels and what stands outside
BELOW, RIGHT, MARGIN = "legend-below", "legend-right", "margin-text"  # gids of legends, and of texts at a panel's right


class OutsideLegendEngine(ConstrainedLayoutEngine):
    """Constrained layout that first moves the legends whose gid is BELOW or RIGHT: a panel's beside its labels, a
    figure's above its caption. Texts whose gid is MARGIN are moved apart."""

    def execute(self, fig: Figure) -> Any:
        """Place legends and margin texts, then lay the panels out."""
        for axes in fig.axes:
            _spread_margin_texts(axes)
            legend = axes.get_legend()
            if legend is not None and legend.get_gid() in (BELOW, RIGHT):
                legend.set_bbox_to_anchor(*_anchor(axes, legend.get_gid()))
        used = _stack_figure_legends(fig, self.get()["h_pad"])
        self.set(rect=(0.0, used, 1.0, 1.0 - used))
        return super().execute(fig)


def _anchor(axes: Axes, side: str | None) -> tuple[tuple[float, float], Any]:
    """Where a panel's legend is anchored, and the transform of that point: beyond the labels of the x-axis, or beyond
    the texts in the right margin."""
    figure, panel = axes.figure, axes.bbox
    if side == BELOW:
        labels = axes.xaxis.get_tightbbox()
        depth = max(panel.y0 - labels.y0, 0.0) / figure.dpi if labels is not None else 0.0
        return (0.5, 0.0), axes.transAxes + ScaledTranslation(0, -depth - PAD, figure.dpi_scale_trans)
    ends = [text.get_window_extent().x1 for text in axes.texts if text.get_gid() == MARGIN]
    width = (max([*ends, panel.x1]) - panel.x1) / figure.dpi
    return (1.0, 1.0), axes.transAxes + ScaledTranslation(width + PAD, 0, figure.dpi_scale_trans)


def _spread_margin_texts(axes: Axes) -> None:
    """Move the texts in the right margin up until none stands on the one below."""
    texts = [text for text in axes.texts if text.get_gid() == MARGIN]
    across, free, figure = axes.get_yaxis_transform(), -inf, axes.figure
    for text in sorted(texts, key=lambda text: text.get_position()[1]):
        text.set_transform(across)
        box = text.get_window_extent()
        up = max(free - box.y0, 0.0)
        text.set_transform(across + ScaledTranslation(0, up / figure.dpi, figure.dpi_scale_trans))
        free = box.y1 + up + MARGIN_GAP * box.height


def _stack_figure_legends(fig: Figure, caption_pad: float) -> float:
    """Stack the figure's own legends above its caption, which stands caption_pad inches above the edge; returns the
    share of the height that they take."""
    caption = 0.0
    if fig.get_supxlabel():
        caption = fig._supxlabel.get_window_extent().height + caption_pad * fig.dpi  # type: ignore[attr-defined]
    pad, used = PAD * fig.dpi, 0.0
    for legend in fig.legends:
        if legend.get_gid() == BELOW:
            legend.set_bbox_to_anchor((0.5, (caption + used + pad) / fig.bbox.height), transform=fig.transFigure)
            used += legend.get_window_extent().height + pad
    return used / fig.bbox.height
