"""Recall: the document, and for each question the place where its key stood, and the value beside it."""

from matplotlib.figure import Figure

from pictures import ASIDE, PATH, PLAIN, TRAINED, colours_of, draw_legend, draw_tokens, first_test_example
from synth.tasks.recall import Recall

MATCH = {"arrowstyle": "-|>", "color": PATH, "connectionstyle": "arc3,rad=0.35", "lw": 1.2}
VALUE_ARROW = MATCH | {"color": ASIDE, "connectionstyle": "arc3,rad=0.7"}


def draw() -> Figure:
    """The document, and for each question the place where its key stood, and the value beside it."""
    task = Recall(pairs=6, queries=3, keys=12, values=12).hardest()
    example, words = first_test_example(task)
    figure = Figure(figsize=(9, 2.6))
    axes = figure.subplots()
    draw_tokens(axes, words, colours_of(example), len(words))
    for at in range(1 + 2 * task.pairs, len(words), 2):
        source = words.index(words[at])
        axes.annotate("", (source + 0.5, -0.1), (at + 0.5, -0.1), arrowprops=MATCH, annotation_clip=False)
        axes.annotate("", (source + 1.5, -0.9), (source + 0.5, -0.9), arrowprops=VALUE_ARROW)
    axes.set(ylim=(-1.5, 2))
    draw_legend(
        figure,
        {PLAIN: "keys and values told, then keys asked", TRAINED: "the value that stood behind the key; trained on"},
    )
    return figure
