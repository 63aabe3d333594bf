"""What a reader's eye would stumble on in a figure, found by measuring: texts on each other, cut at the edge or struck
through by a line, legends on data, letters too small for a slide, axes beyond the range of their quantity."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import cos, inf, radians, sin
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.harness.reporting.figures.layout import DECLARED_RANGES, END_PAD, MIN_POINTS, slide_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

TOLERANCE = 1.0  # pixels by which a box may reach into another, and over the edge
BAND_ALPHA = 0.15  # patches paler than this are backgrounds and may lie under letters
MAX_PAD = 2 * END_PAD  # room that an axis may have beyond the range, as a share of it


@dataclass(frozen=True)
class Box:
    """Where an artist stands: what it is, in words; its corners in pixels (4, 2); and the artist."""

    what: str
    corners: np.ndarray
    artist: Any


def find_overlaps(figure: "Figure") -> list[str]:
    """Draw a figure and list what is wrong with it, one sentence a fault; empty if nothing is.

    Faults: two texts or legends on each other; one cut by the figure's edge; a legend on data; a line through a text
    inside a panel; letters below 7 points where the figure fills a slide; an axis that runs on beyond the range that
    was declared for it with `end_axis` or `limits`, or beyond 1 where its label says "share". Overlaps of up to 2
    pixels are none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)  # becomes the canvas of the figure, whatever it had before
    figure.draw_without_rendering()
    boxes = [*_text_boxes(figure), *_legend_boxes(figure)]
    found = [f"{a.what} overlaps {b.what}" for a, b in combinations(boxes, 2) if _touch(a, b)]
    found += [f"{box.what} is cut by the edge of the figure" for box in boxes if not _is_inside(box, figure)]
    found += _small_texts(figure, boxes)
    for axes in _visible_axes(figure):
        found += [*_faults_on_data(axes, boxes), *_faults_of_range(axes)]
    return found


# ---- boxes -----------------------------------------------------------------------------------------------------
def _visible_axes(figure: "Figure") -> "list[Axes]":
    return [axes for axes in figure.axes if axes.get_visible()]


def _text_boxes(figure: "Figure") -> Iterator[Box]:
    """The boxes of all texts that are seen, but for those inside legends."""
    texts: list[tuple[str, Text]] = [("title or caption", text) for text in figure.texts]
    for axes in _visible_axes(figure):
        texts += [("panel title", text) for text in (axes.title, axes._left_title, axes._right_title)]  # type: ignore[attr-defined]
        texts += [("text", text) for text in axes.texts]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            texts += [("axis label", axis.label), ("axis offset", axis.get_offset_text())]
            texts += [("tick label", text) for text in _tick_labels(axis)]
    for kind, text in texts:
        if text.get_visible() and text.get_text().strip():
            yield Box(f"{kind} {_shorten(text.get_text())}", _text_corners(text), text)


def _tick_labels(axis: "Axis") -> "Iterator[Text]":
    """The labels of the ticks that lie within the axis' limits: matplotlib keeps others, which it does not draw."""
    low, high = sorted(axis.get_view_interval())
    slack = 1e-6 * (high - low)
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        if axis.get_visible() and low - slack <= tick.get_loc() <= high + slack:
            yield from (label for label in (tick.label1, tick.label2) if label.get_visible())


def _legend_boxes(figure: "Figure") -> Iterator[Box]:
    for legend in _legends(figure):
        names = " / ".join(text.get_text() for text in legend.get_texts())
        yield Box(f"legend {_shorten(names)}", _corners(legend.get_window_extent()), legend)


def _legends(figure: "Figure") -> "list[Legend]":
    from matplotlib.legend import Legend

    found = [artist for owner in (*_visible_axes(figure), *figure.legends) for artist in owner.findobj(Legend)]
    return [legend for legend in found if isinstance(legend, Legend) and legend.get_visible()]


def _corners(box: "Bbox") -> np.ndarray:
    return np.array([(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)])


def _text_corners(text: "Text") -> np.ndarray:
    """The corners of a text, turned with it: what matplotlib gives for a slanted text is the upright box around it."""
    around, angle = text.get_window_extent(), text.get_rotation()
    if angle % 90 == 0:
        return _corners(around)
    text.set_rotation(0)
    flat = text.get_window_extent()
    text.set_rotation(angle)
    half = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (flat.width / 2, flat.height / 2)
    turn = radians(angle)
    middle = ((around.x0 + around.x1) / 2, (around.y0 + around.y1) / 2)
    return half @ np.array([(cos(turn), sin(turn)), (-sin(turn), cos(turn))]) + middle


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return f"'{line if len(line) <= 40 else line[:37] + '...'}'"


# ---- faults of boxes -------------------------------------------------------------------------------------------
def _touch(a: Box, b: Box) -> bool:
    """Whether two convex boxes overlap by more than twice the tolerance in every direction of their sides."""
    for corners in (a.corners, b.corners):
        for side in (corners[1] - corners[0], corners[3] - corners[0]):
            length = float(np.hypot(*side))
            if length == 0:
                return False
            one, other = a.corners @ side / length, b.corners @ side / length
            if min(one.max(), other.max()) - max(one.min(), other.min()) <= 2 * TOLERANCE:
                return False
    return True


def _is_inside(box: Box, figure: "Figure") -> bool:
    edge = figure.bbox.padded(TOLERANCE)
    return all(edge.contains(x, y) for x, y in box.corners)


def _small_texts(figure: "Figure", boxes: list[Box]) -> list[str]:
    """One sentence for each size of letters that is below MIN_POINTS on a slide."""
    from matplotlib.text import Text

    scale = slide_scale(figure)
    texts = [(box.artist, box.what) for box in boxes if isinstance(box.artist, Text)]
    entries = [text for legend in _legends(figure) for text in legend.get_texts()]
    texts += [(text, f"legend entry {_shorten(text.get_text())}") for text in entries]
    first: dict[float, str] = {}
    for text, what in texts:
        first.setdefault(float(text.get_fontsize()), what)
    return [
        f"letters of {size:g} points, as in {what}, have {size * scale:.1f} on a slide"
        for size, what in sorted(first.items())
        if size * scale < MIN_POINTS - 0.05
    ]


# ---- faults on data --------------------------------------------------------------------------------------------
def _faults_on_data(axes: "Axes", boxes: list[Box]) -> Iterator[str]:
    """Legends that cover what is drawn in a panel, and lines through texts inside it."""
    from matplotlib.legend import Legend

    for box in boxes:
        if isinstance(box.artist, Legend) and _covers_data(axes, box):
            yield f"{box.what} covers data"
        elif box.artist in axes.texts and _is_struck_through(axes, box):
            yield f"{box.what} is struck through by a line"


def _covers_data(axes: "Axes", box: Box) -> bool:
    area = _shrunk(box, 1.0)
    if area is None or not area.overlaps(axes.bbox):
        return False
    for line in axes.lines:
        marked = line.get_marker() not in ("", " ", "None", None)
        if line.get_visible() and (_crosses(line, area) or marked and _holds_any(area, _points(line))):
            return True
    bars = any(_patch_meets(one, area) for one in axes.patches)
    return bars or any(_collection_meets(one, area) for one in axes.collections)


def _is_struck_through(axes: "Axes", box: Box) -> bool:
    """Whether a line runs through the middle half of a text's height."""
    area = _shrunk(box, 0.5)
    if area is None:
        return False
    bars = [one for one in axes.collections if not len(one.get_facecolor())]  # hlines, bars of errors
    lines = [line for line in axes.lines if line.get_visible()]
    return any(_crosses(line, area) for line in lines) or any(_collection_meets(one, area) for one in bars)


def _shrunk(box: Box, share: float) -> "Bbox | None":
    """The upright area around a box without the tolerance, its height cut to a share around the middle; None if
    nothing is left."""
    from matplotlib.transforms import Bbox

    (x0, y0), (x1, y1) = box.corners.min(axis=0) + TOLERANCE, box.corners.max(axis=0) - TOLERANCE
    cut = (y1 - y0) * (1 - share) / 2
    return Bbox([[x0, y0 + cut], [x1, y1 - cut]]) if x1 > x0 and y1 - cut > y0 + cut else None


def _points(line: "Line2D") -> np.ndarray:
    return line.get_transform().transform(np.column_stack([line.get_xdata(orig=False), line.get_ydata(orig=False)]))


def _crosses(line: "Line2D", area: "Bbox") -> bool:
    """Whether the drawn part of a line, which ends at its panel, passes through an area."""
    from matplotlib.path import Path
    from matplotlib.transforms import Bbox

    if line.get_linestyle() in ("None", "", " ") or len(line.get_path()) < 2:
        return False
    seen = Bbox.intersection(area, line.axes.bbox) if line.axes is not None else area
    points = _points(line)
    return seen is not None and Path(points[np.isfinite(points).all(axis=1)]).intersects_bbox(seen, filled=False)


def _holds_any(area: "Bbox", points: np.ndarray) -> bool:
    x, y = points[:, 0], points[:, 1]
    return bool(((x >= area.x0) & (x <= area.x1) & (y >= area.y0) & (y <= area.y1)).any())


def _collection_meets(one: Any, area: "Bbox") -> bool:
    """Whether dots, bars of errors or a band of a collection lie in an area."""
    if not one.get_visible():
        return False
    offsets = np.asarray(one.get_offsets(), float)
    if len(offsets) and offsets.any():  # a scatter: shapes at their places
        return _holds_any(area, one.get_offset_transform().transform(offsets))
    shapes = [path.transformed(one.get_transform()) for path in one.get_paths() if len(path.vertices)]
    return any(path.intersects_bbox(area, filled=len(one.get_facecolor()) > 0) for path in shapes)


def _patch_meets(one: Any, area: "Bbox") -> bool:
    """Whether a bar lies in an area; pale backgrounds do not count."""
    if not one.get_visible() or (one.get_alpha() or 1.0) < BAND_ALPHA or not one.get_fill():
        return False
    return one.get_transform().transform_path(one.get_path()).intersects_bbox(area, filled=True)


# ---- faults of axes --------------------------------------------------------------------------------------------
def _faults_of_range(axes: "Axes") -> Iterator[str]:
    ranges = {"y": (-inf, 1.0)} if axes.get_ylabel().startswith("share") else {}
    for name, (low, high) in {**ranges, **DECLARED_RANGES.get(axes, {})}.items():
        shown = sorted(axes.get_ylim() if name == "y" else axes.get_xlim())
        room = MAX_PAD * (min(high, shown[1]) - max(low, shown[0]))
        if shown[0] < low - room or shown[1] > high + room:
            what = f"the {name}-axis of {_shorten(axes.get_title())}"
            yield f"{what} runs from {shown[0]:.3g} to {shown[1]:.3g}, its quantity from {low:g} to {high:g}"
