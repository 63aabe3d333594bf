"""The page that a figure is: style, panels, titles, captions, legends off the data, where axes end, and files whose
bytes are the same for the same table."""

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from experiments.harness.reporting.figures.palette import PAPER_COLOR
from synth.atomic_io import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

TITLE_SIZE, CAPTION_SIZE, LEGEND_SIZE = 13.0, 10.0, 9.5  # points
NAME_SIZES = (11.0, 10.0, 9.0, 8.0)  # of the names of categories: the largest that fits
SLIDE, MIN_POINTS = (13.33, 7.5), 7.0  # inches of a page of 16:9, and the smallest letters on it
LETTER_WIDTH, LINE_HEIGHT = 0.56, 1.25  # of a letter and a line, in units of the font's size
END_PAD = 0.04  # room beyond the ends of a range, as a share of it, so that dots at an end are whole

# the ends of an axis by panel and "x" or "y", as end_axis was told; checks holds the limits against them
DECLARED_RANGES: "WeakKeyDictionary[Axes, dict[str, tuple[float, float]]]" = WeakKeyDictionary()


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


def subplots(columns: int = 1, rows: int = 1, width: float = 6.0, height: float = 4.0) -> "tuple[Figure, list[Axes]]":
    """A figure and its axes, row by row; width and height in inches are those of one panel."""
    from matplotlib.figure import Figure

    from experiments.harness.reporting.figures.engine import OutsideLegendEngine

    figure = Figure(figsize=(width * columns, height * rows), layout=OutsideLegendEngine(h_pad=0.08, w_pad=0.08))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def figure_of(axes: "Axes") -> "Figure":
    """The whole figure that a panel belongs to."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # a panel is made by its figure
    return figure


def slide_scale(figure: "Figure") -> float:
    """By how much a figure grows when it is fitted to a slide."""
    return min(SLIDE[0] / figure.get_figwidth(), SLIDE[1] / figure.get_figheight())


def legible(figure: "Figure", points: float) -> float:
    """A size of letters, made larger where it could not be read on a slide; by half at most, as very tall figures are
    no slides."""
    needed = round(1.05 * MIN_POINTS / slide_scale(figure), 1)
    return min(max(points, needed), 1.5 * points)


# ---- titles and captions ---------------------------------------------------------------------------------------
def set_title(figure: "Figure", text: str) -> None:
    """A headline above all panels: the question or the finding in one line. A longer one is broken into lines."""
    lines = _wrap(figure, text, TITLE_SIZE)
    _make_room(figure, figure.get_suptitle(), lines, TITLE_SIZE)
    figure.suptitle(lines, fontsize=TITLE_SIZE)


def set_caption(figure: "Figure", text: str) -> None:
    """Small grey text under the panels, for how to read them: protocol, number of seeds, what dots and bars are.

    The figure grows by its lines. A second call replaces the first one's text.
    """
    size = legible(figure, CAPTION_SIZE)
    lines = _wrap(figure, text, size)
    _make_room(figure, figure.get_supxlabel(), lines, size)
    figure.supxlabel(lines, fontsize=size, color=PAPER_COLOR, x=0.01, ha="left", multialignment="left")


def _make_room(figure: "Figure", old: str, new: str, size: float) -> None:
    """Make the figure higher by the lines that a text gains, so that the panels keep their height."""
    added = len(new.splitlines()) - len(old.splitlines())
    figure.set_figheight(figure.get_figheight() + added * size * LINE_HEIGHT / 72)


def _wrap(figure: "Figure", text: str, size: float) -> str:
    letters = int(figure.get_figwidth() * 72 / (LETTER_WIDTH * size))
    kept_whole = text.replace("n = ", "n\u00a0=\u00a0")
    return "\n".join(line for part in kept_whole.splitlines() for line in textwrap.wrap(part, letters))


# ---- legends ---------------------------------------------------------------------------------------------------
def legend_outside(axes: "Axes", side: str = "below", title: str | None = None, **style: Any) -> "Legend | None":
    """The panel's legend off its data: under the axis label (side "below"), or at the right of the panel ("right").

    The figure must come from `subplots`. Returns None if the panel has nothing to explain. style: keywords of
    matplotlib's legend.
    """
    from experiments.harness.reporting.figures.engine import BELOW, RIGHT

    handles, names = axes.get_legend_handles_labels()
    if not names:
        return None
    size = legible(figure_of(axes), LEGEND_SIZE)
    width = 1.25 * axes.bbox.width / axes.figure.dpi  # with the room of the labels at the left
    columns = _fit_columns(names, width, size) if side == "below" else 1
    look = {"fontsize": size, "ncols": columns, "borderaxespad": 0.0}
    place = {"loc": "upper center" if side == "below" else "upper left", "bbox_to_anchor": (0.5, 0.0)}
    legend = axes.legend(handles, names, title=title, **{**look, **place, **style})
    legend.set_gid(BELOW if side == "below" else RIGHT)
    return legend


def share_legend(figure: "Figure", title: str | None = None, **style: Any) -> "Legend | None":
    """One legend for the whole figure, between its panels and its caption, in place of those of its panels.

    It has every label of the visible panels once. The figure must come from `subplots`. Returns None if there is none.
    """
    from experiments.harness.reporting.figures.engine import BELOW

    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True) if axes.get_visible() else ():
            entries.setdefault(name, handle)
        if (own := axes.get_legend()) is not None:
            own.remove()
    if not entries:
        return None
    size = legible(figure, LEGEND_SIZE)
    columns = _fit_columns(list(entries), figure.get_figwidth(), size)
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 0.0}
    look = {"fontsize": size, "ncols": columns}
    legend = figure.legend(entries.values(), entries, title=title, **{**place, **look, **style})
    legend.set_gid(BELOW)
    return legend


def _fit_columns(names: list[str], width: float, size: float) -> int:
    """How many columns of a legend with letters of `size` points fit a width in inches."""
    letters = max(len(line) for name in names for line in name.splitlines() or [""])
    column = (letters * 0.5 + 4.5) * size / 72  # 4.5: handle and gaps
    most = max(1, min(len(names), int(width / column)))
    return ceil(len(names) / ceil(len(names) / most))  # rows of nearly equal length


# ---- axes ------------------------------------------------------------------------------------------------------
def name_categories(axes: "Axes", names: Sequence[str]) -> None:
    """Name the places 0, 1, ... of the x-axis, broken into lines that fit; a word too long for its place is slanted.

    Call it when the limits of the axis are set.
    """
    (low, high), figure = axes.get_xlim(), figure_of(axes)
    place = 0.92 * axes.bbox.width / figure.dpi * 72 / (high - low)  # points
    widest = max((_text_width(part) for name in names for part in name.split()), default=1.0)
    least = legible(figure, NAME_SIZES[-1])
    size = next((each for each in (*NAME_SIZES, least) if least <= each <= place / widest), 0.0)
    if not size:
        axes.set_xticks(
            range(len(names)), [" ".join(name.replace("-\n", "").split()) for name in names], fontsize=least
        )
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
        return
    axes.set_xticks(range(len(names)), [_break_lines(name, place / size) for name in names], fontsize=size)


def _break_lines(name: str, width: float) -> str:
    """A name in lines of at most `width` font sizes, where its words allow; its own line breaks are kept."""
    lines: list[str] = []
    for part in name.splitlines():
        words = part.split()
        lines += words[:1]
        for word in words[1:]:
            longer = f"{lines[-1]} {word}"
            lines[-1:] = [longer] if _text_width(longer) <= width else [lines[-1], word]
    return "\n".join(lines)


def _text_width(text: str) -> float:
    """Width of a line in units of the font's size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, FontProperties(size=100), ismath=False)[0] / 100


def end_axis(axes: "Axes", low: float, high: float, axis: str = "y") -> None:
    """End an axis where its quantity can end: ticks and line from low to high, with room for whole dots at the ends.

    An infinite end is left to the data. Call it after plotting on an axis with one.
    """
    from matplotlib.ticker import MaxNLocator

    side = {"y": axes.yaxis, "x": axes.xaxis}[axis]
    found = axes.get_ylim() if axis == "y" else axes.get_xlim()
    shown = [end if isfinite(end) else drawn for end, drawn in zip((low, high), found, strict=True)]
    pad = END_PAD * (shown[1] - shown[0])
    ends = shown[0] - pad * isfinite(low), shown[1] + pad * isfinite(high)
    axes.set(**{f"{axis}lim": ends})
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(*shown)
    side.set_ticks([tick for tick in ticks if shown[0] - 1e-9 <= tick <= shown[1] + 1e-9])
    axes.spines[{"y": "left", "x": "bottom"}[axis]].set_bounds(shown[0], shown[1])
    DECLARED_RANGES.setdefault(axes, {})[axis] = (low, high)


# ---- files -----------------------------------------------------------------------------------------------------
def save(figure: "Figure", folder: Path, note: str = "", name: str = "figure") -> list[Path]:
    """Write figure.png and figure.svg (or another name) into a folder and return their paths.

    The bytes are the same for the same figure. note: a line under the caption.
    """
    if note:
        set_caption(figure, f"{figure.get_supxlabel()}\n{note}".strip())
    paths = []
    for kind, metadata in {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}.items():
        picture = BytesIO()
        figure.savefig(picture, format=kind, metadata=metadata)
        paths.append(folder / f"{name}.{kind}")
        write_bytes(paths[-1], picture.getvalue())
    return paths
