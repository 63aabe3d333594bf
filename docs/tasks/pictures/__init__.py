"""What the pictures of the tasks share: a module of this folder draws one from real samples, by its function `draw`.

It has the name of the task's file in synth/tasks, and draw.py writes what it draws to ../NAME.png. The colours of a
picture stay apart for colour-blind readers (by 13 or more in CIELAB, whichever of the three cones is missing).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from synth import Corpus, Example, Task

PLAIN, TRAINED, GIVEN, INK = "#eef0f3", "#ffd58a", "#b9d7f0", "#333333"
PATH, ASIDE = "#d1841f", "#9aa3ad"
WIDTH = 9.0  # inches of a page
COLUMNS = 100  # characters of a line on a page
LINE = 0.3  # inches from one line of a page to the next


def first_test_example(task: Task) -> tuple[Example, list[str]]:
    """The first test document of seed 0, with the names of its tokens."""
    example = Corpus(task, 0, "test").documents(0, 1, labels=True)[0]
    return example, task.vocab().decode(example.tokens)


def colours_of(example: Example) -> list[str]:
    """A token is trained on or not."""
    return [TRAINED if counted else PLAIN for counted in example.loss_mask]


def draw_tokens(axes: Axes, words: Sequence[str], colours: Sequence[str], a_row: int) -> None:
    """Tokens as boxes, `a_row` of them in a row, from the top left; a long word is written small enough for its box."""
    figure = axes.figure.get_figure(root=True)
    assert figure
    room = 72 * figure.get_figwidth() / a_row * 0.86
    for i, (word, colour) in enumerate(zip(words, colours, strict=True)):
        row, column = divmod(i, a_row)
        axes.add_patch(Rectangle((column + 0.04, -row - 0.9), 0.92, 0.8, facecolor=colour, edgecolor="none"))
        size = min(9, room / (0.68 * len(word)))
        axes.text(column + 0.5, -row - 0.5, word, ha="center", va="center", fontsize=size, color=INK)
    axes.set(xlim=(0, a_row), ylim=(-1 - (len(words) - 1) // a_row, 0))
    axes.set_axis_off()


def draw_legend(figure: Figure, meanings: Mapping[str, str]) -> None:
    """What the colours of boxes mean, under everything else."""
    boxes = [Patch(facecolor=colour, edgecolor="none", label=meaning) for colour, meaning in meanings.items()]
    figure.legend(handles=boxes, loc="outside lower center", ncols=len(boxes), fontsize=9, handlelength=1.2)


def page() -> tuple[Figure, Axes]:
    """An empty page: x counts characters from the left, y lines from the top; `end` cuts it to its length."""
    figure = Figure()
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.01, 0, 0.98, 1), xlim=(0, COLUMNS))
    axes.set_axis_off()
    return figure, axes


def finish_page(figure: Figure, lines: float, legend: Sequence["Piece"] = ()) -> Figure:
    """The page with a legend in the middle of its last line, if any, and as long as it has to be."""
    (axes,) = figure.axes
    if legend:
        width = sum(len(piece.text) + 1.4 for piece in legend)
        lines = flow(axes, legend, lines, left=(COLUMNS - width) / 2)
    axes.set_ylim(lines, 0)
    figure.set_size_inches(WIDTH, LINE * lines)
    return figure


@dataclass(frozen=True)
class Piece:
    """Words that are written together, in a box if they have a colour, with a small note beneath."""

    text: str
    colour: str = ""
    note: str = ""


def size_of(scale: float = 1.0) -> float:
    """The size in points of a letter that is `scale` columns wide."""
    return scale * 0.95 * 72 * WIDTH / COLUMNS / 0.602  # a letter of the font is 0.602 of its size wide


def write(axes: Axes, x: float, y: float, text: str, scale: float = 1.0, **look: object) -> None:
    """A text that begins at x, around the line y."""
    shown = {"va": "center", "color": INK, "family": "monospace", "fontsize": size_of(scale), **look}
    axes.text(x, y, text.replace("$", r"\$"), **shown)  # type: ignore[arg-type]


def flow(axes: Axes, pieces: Sequence[Piece], top: float, left: float = 0.5, step: float = 1.0) -> float:
    """Pieces one after the other from the line `top` on, and lines `step` apart; returns the line after them."""
    x, y = left, top
    for piece in pieces:
        if x + len(piece.text) > COLUMNS - 0.5:
            x, y = left, y + step
        if piece.colour:
            box = Rectangle((x - 0.45, y - 0.4), len(piece.text) + 0.9, 0.8, facecolor=piece.colour, edgecolor="none")
            axes.add_patch(box)
        write(axes, x, y, piece.text)
        write(axes, x + len(piece.text) / 2, y + 0.62, piece.note, 0.72, ha="center")
        x += len(piece.text) + (1.4 if piece.colour else 1)
    return y + step


def heading(axes: Axes, y: float, text: str, x: float = 0.2) -> None:
    """A line that says what follows it."""
    write(axes, x, y, text, 1.02, weight="bold", family="sans-serif")
