"""Perturbed cfg: one sentence, and what faults of each kind made of it."""

from typing import Any, get_args

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pictures import INK, PATH, PLAIN, TRAINED
from pictures.cfg import nodes_of
from probing.tree_view.parse_trees import Node
from synth import Example
from synth.random.rng import rng
from synth.tasks.cfg import Cfg
from synth.tasks.cfg_perturbed import STRENGTHS, PerturbationKind, PerturbedCfg

TITLES = {
    "clean": "clean: symbols of level 3 over the sentence",
    "terminal": "terminal: any token, by one drawn evenly",
    "random": "random: a symbol of level 3, by one drawn evenly",
    "fixed": "fixed: a symbol of level 3, by the next one",
}


def versions(seed: int) -> dict[str, Example]:
    """A sentence without faults and with those of each kind, all grown from the same draws."""
    tasks: dict[str, Cfg] = {"clean": Cfg("cfg3b", "14")}
    tasks |= {kind: PerturbedCfg("cfg3b", "14", kind, STRENGTHS[kind]) for kind in get_args(PerturbationKind)}
    return {
        name: task.sample_block(task.world(), rng("a picture", seed), "train", 1, labels=True)[0]
        for name, task in tasks.items()
    }


def rows(example: Example) -> tuple[list[Node], list[Node]]:
    """The nodes of level 3 and the tokens."""
    *_, above, tokens = nodes_of(Cfg("cfg3b", "14").world(), example)
    return above, tokens


def faults(clean: Example, other: Example) -> tuple[set[int], set[int]]:
    """Which nodes of level 3 and which tokens were replaced, by their number from the left."""
    (above, below), (above_now, below_now) = rows(clean), rows(other)
    symbols = {i for i, (a, b) in enumerate(zip(above, above_now, strict=True)) if a.symbol != b.symbol}
    same = not symbols and len(below) == len(below_now)
    tokens = {i for i, (a, b) in enumerate(zip(below, below_now, strict=same)) if a.symbol != b.symbol}
    return symbols, tokens if same else set()


def is_clear_example(seed: int) -> bool:
    """Whether each kind struck, and at few places."""
    found = versions(seed)
    struck = [faults(found["clean"], found[kind]) for kind in get_args(PerturbationKind)]
    return all(1 <= len(symbols) + len(tokens) <= 2 for symbols, tokens in struck)


def boxes(axes: Axes, nodes: list[Node], top: float, struck: set[int], before: list[Node]) -> None:
    """A row of symbols above what they stand for; one that was replaced is framed and names what stood there."""
    for i, node in enumerate(nodes):
        fault = i in struck
        look: dict[str, Any] = {
            "facecolor": TRAINED if fault else PLAIN,
            "edgecolor": PATH if fault else "none",
            "lw": 2,
        }
        axes.add_patch(Rectangle((node.start + 0.05, top + 0.08), node.stop - node.start - 0.1, 0.84, **look))
        text = f"{before[i].symbol}→{node.symbol}" if fault else node.symbol
        weight = "bold" if fault else "normal"
        at = ((node.start + node.stop) / 2, top + 0.5)
        axes.text(*at, text, ha="center", va="center", color=INK, fontsize=9, weight=weight)


def draw() -> Figure:
    """The first sentence in which every kind struck once or twice: its symbols of level 3 over its tokens."""
    found = versions(next(seed for seed in range(1000) if is_clear_example(seed)))
    clean = rows(found["clean"])
    figure = Figure(figsize=(9, 5))
    axes = figure.subplots()
    for row, (name, example) in enumerate(found.items()):
        top = 3.2 * row
        axes.text(0, top - 0.1, TITLES[name], color=INK, fontsize=10)
        for line, nodes, struck in zip((0, 1), rows(example), faults(found["clean"], example), strict=True):
            boxes(axes, nodes, top + line, struck, clean[line])
    widest = max(rows(example)[1][-1].stop for example in found.values())
    axes.set(xlim=(0, widest), ylim=(3.2 * len(found) - 1, -0.8))
    axes.set_axis_off()
    axes.grid(False)
    return figure
