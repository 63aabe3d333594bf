"""Draw the pictures of docs/tasks from real samples: python docs/tasks/draw.py NAME, such as depo, mano or copy.

A picture is a document as a strip of tokens, those that the loss counts in colour, under what the document says.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness.figures import style
from synth import Corpus, Example, Task, UserError
from synth.tasks.copy import CopyTask
from synth.tasks.depo import Depo
from synth.tasks.mano import Mano

PLAIN, TRAINED, GIVEN, INK = "#eef0f3", "#ffd58a", "#b9d7f0", "#333333"


def strip(axes: Axes, words: Sequence[str], colours: Sequence[str], a_row: int) -> None:
    """Tokens as boxes, `a_row` of them in a row, from the top left."""
    for i, (word, colour) in enumerate(zip(words, colours, strict=True)):
        row, column = divmod(i, a_row)
        axes.add_patch(plt.Rectangle((column + 0.04, -row - 0.9), 0.92, 0.8, facecolor=colour, edgecolor="none"))
        axes.text(column + 0.5, -row - 0.5, word, ha="center", va="center", fontsize=9, color=INK)
    axes.set(xlim=(0, a_row), ylim=(-1 - (len(words) - 1) // a_row, 0))
    axes.set_axis_off()


def sampled(task: Task) -> tuple[Example, list[str]]:
    """The first test document of seed 0, with the names of its tokens."""
    example = Corpus(task, 0, "test").documents(0, 1, labels=True)[0]
    return example, task.vocab().decode(example.tokens)


def colours_of(example: Example) -> list[str]:
    """A token is trained on or not."""
    return [TRAINED if counted else PLAIN for counted in example.loss_mask]


def depo() -> Figure:
    """The cycle, with the path of the last question, over the document."""
    task = Depo(nodes=8, hops=4, queries=2).hardest()
    example, words = sampled(task)
    edges, questions = task.read(example.tokens) or ([], [])
    names = task.vocab().names
    after = dict(edges)
    cycle = [edges[0][0]]
    while after[cycle[-1]] != cycle[0]:
        cycle.append(after[cycle[-1]])
    hops, start, _ = questions[-1]
    begin = cycle.index(start)
    path = [(begin + j) % len(cycle) for j in range(hops + 1)]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5.4), height_ratios=(3, 2))
    turn = np.pi / 2 - 2 * np.pi * np.arange(len(cycle)) / len(cycle)
    places = np.stack([1.8 * np.cos(turn), np.sin(turn)], axis=1)
    for i, (x, y) in enumerate(places):
        step = i in path[:-1]
        arrow = {"arrowstyle": "-|>", "color": "#d1841f" if step else "#9aa3ad", "lw": 2 if step else 1, "shrinkA": 24}
        top.annotate("", places[(i + 1) % len(cycle)], (x, y), arrowprops={**arrow, "shrinkB": 24})
        colour = TRAINED if i == path[-1] else GIVEN if i == begin else PLAIN
        label = " ".join(names[token] for token in cycle[i])
        top.text(
            x, y, label, ha="center", va="center", color=INK, bbox={"boxstyle": "round", "fc": colour, "ec": "none"}
        )
    top.set(xlim=(-2.4, 2.4), ylim=(-1.2, 1.2), aspect="equal")
    top.set_axis_off()
    top.text(0, 0, f"query{hops}\n{hops} steps on", ha="center", va="center", color=INK)
    colours = colours_of(example)
    for j in range(example.prompt_length - 2 - len(start), example.prompt_length - 1):
        colours[j] = GIVEN
    strip(bottom, words, colours, 16)
    return figure


def mano() -> Figure:
    """The tree of the expression with the value of every part, over the document."""
    task = Mano(ops=5).hardest()
    example, words = sampled(task)
    leaves, height = 0, {"deepest": 0}
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4.8), height_ratios=(4, 1))

    def draw(at: int, depth: int) -> tuple[int, float]:
        """Draws the part that begins at token `at`; returns where the next begins, and how far right its top is."""
        nonlocal leaves
        height["deepest"] = max(height["deepest"], depth)
        if words[at].isdigit():
            leaves += 1
            end, x, text = at + 1, leaves - 1.0, words[at]
        else:
            middle, left = draw(at + 1, depth + 1)
            end, right = draw(middle, depth + 1)
            x, text = (left + right) / 2, f"{words[at]}\n= {task.value(example.tokens[at:end])}"
            for child in (left, right):
                top.plot([x, child], [-depth, -depth - 1], color="#9aa3ad", lw=1, zorder=0)
        colour = TRAINED if depth == 0 else PLAIN
        top.text(
            x, -depth, text, ha="center", va="center", color=INK, bbox={"boxstyle": "round", "fc": colour, "ec": "none"}
        )
        return end, x

    draw(2, 0)
    top.set(xlim=(-0.7, leaves - 0.3), ylim=(-height["deepest"] - 0.5, 0.5))
    top.set_axis_off()
    top.grid(False)
    strip(bottom, words, colours_of(example), len(words))
    return figure


def copy() -> Figure:
    """The document, and for each symbol of the second copy the place where it is read."""
    task = CopyTask(9)
    example, words = sampled(task)
    figure, axes = plt.subplots(figsize=(8, 1.9))
    strip(axes, words, colours_of(example), len(words))
    for i in range(example.prompt_length - 1, len(words) - 1):
        source = i - task.length  # the token after the earlier occurrence of token i
        bend = {"arrowstyle": "-|>", "color": "#d1841f", "connectionstyle": "arc3,rad=0.3", "lw": 1, "alpha": 0.8}
        axes.annotate("", (source + 0.5, -0.1), (i + 0.5, -0.1), arrowprops=bend, annotation_clip=False)
    axes.set(ylim=(-1, 1.7))
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {"depo": depo, "mano": mano, "copy": copy}


def main(names: list[str]) -> None:
    """Write the pictures of these names beside this file, of all of them without any."""
    for name in names or PICTURES:
        if name not in PICTURES:
            raise UserError(f"no picture of {name!r}; there are {', '.join(PICTURES)}")
        with style():
            figure = PICTURES[name]()
            path = Path(__file__).with_name(f"{name}.png")
            figure.savefig(path, metadata={"Software": None})
            plt.close(figure)
        print(path)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
