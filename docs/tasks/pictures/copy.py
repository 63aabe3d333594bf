"""Copy: the document, and for each symbol of the second copy the place where it is read."""

from matplotlib.figure import Figure

from pictures import PATH, PLAIN, TRAINED, colours_of, draw_legend, draw_tokens, first_test_example
from synth.tasks.copy import CopyTask


def draw() -> Figure:
    """The document, and for each symbol of the second copy the place where it is read."""
    task = CopyTask(9)
    example, words = first_test_example(task)
    figure = Figure(figsize=(8, 2))
    axes = figure.subplots()
    draw_tokens(axes, words, colours_of(example), len(words))
    for i in range(example.prompt_length - 1, len(words) - 1):
        source = i - task.length  # the token after the earlier occurrence of token i
        bend = {"arrowstyle": "-|>", "color": PATH, "connectionstyle": "arc3,rad=0.3", "lw": 1, "alpha": 0.8}
        axes.annotate("", (source + 0.5, -0.1), (i + 0.5, -0.1), arrowprops=bend, annotation_clip=False)
    axes.set(ylim=(-1, 1.3))
    draw_legend(figure, {PLAIN: "given", TRAINED: "the copy, trained on; arrows: where what follows a token is read"})
    return figure
