"""Depo: the cycle that a document tells, with the path of its last question, over the document."""

import numpy as np
from matplotlib.figure import Figure

from pictures import ASIDE, GIVEN, INK, PATH, PLAIN, TRAINED, colours_of, draw_legend, draw_tokens, first_test_example
from synth.tasks.depo import Depo


def draw() -> Figure:
    """The cycle, with the path of the last question, over the document."""
    task = Depo(nodes=8, hops=4, queries=2).hardest()
    example, words = first_test_example(task)
    edges, questions = task.parse(example.tokens) or ([], [])
    names = task.vocab().names
    after = dict(edges)
    cycle = [edges[0][0]]
    while after[cycle[-1]] != cycle[0]:
        cycle.append(after[cycle[-1]])
    hops, start, _ = questions[-1]
    begin = cycle.index(start)
    path = [(begin + j) % len(cycle) for j in range(hops + 1)]
    figure = Figure(figsize=(8, 5.8))
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 2))
    turn = np.pi / 2 - 2 * np.pi * np.arange(len(cycle)) / len(cycle)
    places = np.stack([1.8 * np.cos(turn), np.sin(turn)], axis=1)
    for i, (x, y) in enumerate(places):
        step = i in path[:-1]
        arrow = {"arrowstyle": "-|>", "color": PATH if step else ASIDE, "lw": 2 if step else 1, "shrinkA": 24}
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
    draw_tokens(bottom, words, colours, 16)
    draw_legend(figure, {PLAIN: "told: node, node after it, ...", GIVEN: "asked", TRAINED: "answered, and trained on"})
    return figure
