"""Implicit cfg: the hidden tree and terminals of a sentence, the words that are written, and their bags."""

from matplotlib.figure import Figure

from pictures import INK, draw_legend
from pictures.cfg import first_short_example, nodes_of, tree
from synth.tasks.implicit import ImplicitCfg

BAGS = ("#b9d7f0", "#ffd58a", "#a3a9b3")  # one for each terminal
LONGEST = 20  # words of a sentence


def draw() -> Figure:
    """The first test sentence that is short enough: what is hidden above the line, what a model sees below it."""
    task = ImplicitCfg("cfg3b", root="14", words=12)
    world = task.world(0)
    example = first_short_example(task, LONGEST)
    *hidden, words = nodes_of(world, example)
    colour = dict(zip(world.levels[-2], BAGS, strict=True))
    figure = Figure(figsize=(9, 4.4))
    axes = figure.subplots()
    tree(axes, hidden)
    for terminal, word in zip(hidden[-1], words, strict=True):
        look = {"boxstyle": "round,pad=0.35", "fc": colour[terminal.symbol], "ec": "none"}
        at = (word.start, -len(hidden) - 0.3)
        arrow = {"arrowstyle": "-|>", "color": INK, "lw": 0.8, "shrinkA": 10, "shrinkB": 10, "linestyle": ":"}
        axes.annotate("", at, (word.start, 1 - len(hidden)), arrowprops=arrow)
        axes.text(word.start, 1 - len(hidden), terminal.symbol, ha="center", va="center", color=INK, bbox=look)
        axes.text(*at, word.symbol, ha="center", va="center", color=INK, bbox=look)
    middle = 0.35 - len(hidden)
    axes.axhline(middle, color=INK, lw=1, linestyle="--")
    axes.text(-2.4, middle + 0.15, "never seen", color=INK, fontsize=9, va="bottom")
    axes.text(-2.4, middle - 0.15, "seen", color=INK, fontsize=9, va="top")
    axes.set_ylim(-len(hidden) - 0.8, 0.5)
    bags = {fill: f"bag {t}: {' '.join(word for (word,) in world.rules[t])}" for t, fill in colour.items()}
    draw_legend(figure, bags)
    return figure
