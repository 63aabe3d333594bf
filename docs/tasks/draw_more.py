"""Draw the pictures of brevo and recall as draw.py does: python docs/tasks/draw_more.py brevo recall."""

import sys

import matplotlib.pyplot as plt
from draw import GIVEN, INK, PICTURES, PLAIN, TRAINED, colours_of, main, sampled, strip
from matplotlib.figure import Figure

from synth import UserError
from synth.tasks.brevo import Brevo, Question, Word
from synth.tasks.recall import Recall

PATH, ASIDE = "#d1841f", "#9aa3ad"
MATCH = {"arrowstyle": "-|>", "color": PATH, "connectionstyle": "arc3,rad=0.35", "lw": 1.2}
TOLD = MATCH | {"color": ASIDE, "connectionstyle": "arc3,rad=0.7"}


def height(question: Question, node: Word) -> int:
    """The most edges from a node down to a leaf."""
    return 1 + max((height(question, parent) for parent in question.parents.get(node, ())), default=-1)


def brevo() -> Figure:
    """The graph, leaves at the bottom, with what the asked node depends on, over the document."""
    task = Brevo(nodes=10).hardest()
    example, words = sampled(task)
    question, answer = task.read(example.prompt), task.words(example.tokens[example.prompt_length : -1])
    assert question and answer
    heights = {node: height(question, node) for node in question.nodes}
    ranked = sorted(heights, key=lambda node: (heights[node], node))
    golden = (5**0.5 - 1) / 2  # far apart along the width, and uneven in height, so that no edge hides another
    places = {node: (0.05 + 0.9 * (golden * i % 1), heights[node] + i * i % 5 / 10) for i, node in enumerate(ranked)}
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5.6), height_ratios=(3, 2))
    for child, parents in question.parents.items():
        for parent in parents:
            on = child in question.needed
            arrow = {
                "arrowstyle": "-|>",
                "color": PATH if on else ASIDE,
                "lw": 2 if on else 1,
                "shrinkA": 11,
                "shrinkB": 11,
            }
            top.annotate("", places[parent], places[child], arrowprops=arrow)
    for node, (x, y) in places.items():
        colour = GIVEN if node == question.asked else TRAINED if node in question.needed else PLAIN
        box = {"boxstyle": "circle", "fc": colour, "ec": "none"}
        top.text(x, y, str(node[0]), ha="center", va="center", color=INK, bbox=box)
    top.set(xlim=(0, 1), ylim=(-0.5, max(heights.values()) + 0.5))
    top.set_axis_off()
    colours = colours_of(example)
    colours[example.prompt_length - 2] = GIVEN
    strip(bottom, words, colours, 20)
    return figure


def recall() -> Figure:
    """The document, and for each question the place where its key stood, and the value beside it."""
    task = Recall(pairs=6, queries=3, keys=12, values=12).hardest()
    example, words = sampled(task)
    figure, axes = plt.subplots(figsize=(9, 2.6))
    strip(axes, words, colours_of(example), len(words))
    for at in range(1 + 2 * task.pairs, len(words), 2):
        source = words.index(words[at])
        axes.annotate("", (source + 0.5, -0.1), (at + 0.5, -0.1), arrowprops=MATCH, annotation_clip=False)
        axes.annotate("", (source + 1.5, -0.9), (source + 0.5, -0.9), arrowprops=TOLD)
    axes.set(ylim=(-1.6, 2.6))
    return figure


PICTURES.update(brevo=brevo, recall=recall)

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
