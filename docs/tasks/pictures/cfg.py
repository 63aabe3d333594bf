"""Cfg: a sentence under its derivation tree, with the ancestors of one place and where subtrees end."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures import ASIDE, GIVEN, INK, PATH, PLAIN, TRAINED, draw_legend
from probing.tree_view.parse_trees import Node
from synth import Corpus, Example
from synth.cfg import Grammar
from synth.tasks.cfg import Cfg

LONGEST = 30  # tokens of a sentence that is still read easily
MARKED = 12  # the place whose ancestors are shown


def first_short_example(task: Cfg, most: int) -> Example:
    """The first test document of seed 0 with at most so many tokens, <bos> and <eos> not counted."""
    block = Corpus(task, 0, "test").documents(0, 64, labels=True)
    return block[int(np.flatnonzero(block.lengths <= most + 2)[0])]


def nodes_of(grammar: Grammar, example: Example) -> list[list[Node]]:
    """The nodes of every level, from left to right, terminals last; places count from 0 behind <bos>."""
    ancestor, subtree = example.labels["ancestor"][1:-1], example.labels["subtree"][1:-1]
    levels = []
    for level, symbols in enumerate(grammar.levels):
        starts = np.flatnonzero(np.diff(subtree[:, level], prepend=-1)).tolist()
        stops = [*starts[1:], len(subtree)]
        spans = zip(starts, stops, strict=True)
        levels.append([Node(level + 1, start, stop, symbols[ancestor[start, level]]) for start, stop in spans])
    return levels


def node_position(node: Node) -> tuple[float, int]:
    """Where a node is drawn: above the middle of its places, the root at height 0."""
    return (node.start + node.stop - 1) / 2, 1 - node.level


def tree(axes: Axes, levels: list[list[Node]], marked: int = -1) -> None:
    """Draw the tree from the root, at height 0, down; nodes above the place `marked` stand out."""
    for above, level in zip([levels[0], *levels], levels, strict=False):
        for node in level:
            parent = next(one for one in above if one.start <= node.start < one.stop)
            on = node.start <= marked < node.stop
            look: dict[str, Any] = (
                {"color": PATH, "lw": 2.2, "zorder": 1} if on else {"color": ASIDE, "lw": 1, "zorder": 0}
            )
            axes.plot(*zip(node_position(parent), node_position(node), strict=True), **look)
            box = {"boxstyle": "round,pad=0.25", "fc": TRAINED if on else PLAIN, "ec": PATH if on else "none"}
            axes.text(*node_position(node), node.symbol, ha="center", va="center", color=INK, fontsize=9, bbox=box)
    axes.set(xlim=(-2.4, levels[0][0].stop), ylim=(0.4 - len(levels), 0.4))
    axes.set_axis_off()
    axes.grid(False)


def ends(axes: Axes, example: Example, height: float) -> None:
    """Below every token, the number of the level of the largest subtree that ends there."""
    for place, level in enumerate(example.labels["boundary"][1:-1].tolist()):
        inner = level < example.labels["ancestor"].shape[1]
        box = {"boxstyle": "round,pad=0.2", "fc": GIVEN if inner else "none", "ec": "none"}
        look: dict[str, Any] = {"color": INK if inner else ASIDE, "bbox": box, "fontsize": 8}
        axes.text(place, height, str(level), ha="center", va="center", **look)


def draw() -> Figure:
    """The first test sentence that is short enough."""
    task = Cfg("cfg3f", root="16")
    example = first_short_example(task, LONGEST)
    levels = nodes_of(task.world(), example)
    figure = Figure(figsize=(9, 4.4))
    axes = figure.subplots()
    tree(axes, levels, MARKED)
    ends(axes, example, -len(levels))
    for depth in range(len(levels)):
        name = "sentence" if depth == len(levels) - 1 else f"level {depth + 1}"
        axes.text(-2.4, -depth, name, va="center", color=INK, fontsize=9)
    axes.text(-2.4, -len(levels), "ends here", va="center", color=INK, fontsize=9)
    axes.set_ylim(-len(levels) - 0.4, 0.4)
    draw_legend(
        figure,
        {
            TRAINED: f"the ancestors of token {MARKED + 1}",
            GIVEN: "level of the largest subtree below the root that ends here",
        },
    )
    return figure
