"""Brevo: the graph, leaves at the bottom, with what the asked node depends on, over the document."""

import numpy as np
from matplotlib.figure import Figure

from pictures import ASIDE, GIVEN, INK, PATH, PLAIN, TRAINED, colours_of, draw_legend, draw_tokens, first_test_example
from synth.tasks.brevo import Brevo, Question, Word

WIDE = 10.0  # of the picture of a graph, where a level is about 1 high


def height(question: Question, node: Word) -> int:
    """The most edges from a node down to a leaf."""
    return 1 + max((height(question, parent) for parent in question.parents.get(node, ())), default=-1)


def random_layout(question: Question, seed: int) -> dict[Word, np.ndarray]:
    """Places (2,) of the nodes: anywhere along the width, higher the more edges there are below."""
    draw = np.random.default_rng(seed)
    return {
        node: np.array([draw.uniform(0.4, WIDE - 0.4), height(question, node) + draw.uniform(0, 0.5)])
        for node in sorted(question.nodes)
    }


def clearance(places: dict[Word, np.ndarray], edges: list[tuple[Word, Word]]) -> float:
    """The least distance between an edge and a node that is not on it."""
    ends = np.array([[places[child], places[parent]] for child, parent in edges])
    names, nodes = list(places), np.array(list(places.values()))
    along = ends[:, 1] - ends[:, 0]
    share = ((nodes - ends[:, :1]) * along[:, None]).sum(-1) / (along**2).sum(-1)[:, None]
    nearest = ends[:, :1] + np.clip(share, 0, 1)[..., None] * along[:, None]
    distance = np.linalg.norm(nodes - nearest, axis=-1)
    own = np.array([[name in edge for name in names] for edge in edges])
    return float(distance[~own].min())


def draw() -> Figure:
    """The graph, leaves at the bottom, with what the asked node depends on, over the document."""
    task = Brevo(nodes=10).hardest()
    example, words = first_test_example(task)
    question = task.parse(example.prompt)
    assert question
    edges = [(child, parent) for child, parents in question.parents.items() for parent in sorted(parents)]
    places = max((random_layout(question, seed) for seed in range(2000)), key=lambda found: clearance(found, edges))
    figure = Figure(figsize=(8, 6))
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 2))
    for child, parent in edges:
        colour, width = (PATH, 2) if child in question.dependencies else (ASIDE, 1)
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 11, "shrinkB": 11}
        top.annotate("", places[parent], places[child], arrowprops=arrow)
    for node, (x, y) in places.items():
        colour = GIVEN if node == question.queried else TRAINED if node in question.dependencies else PLAIN
        box = {"boxstyle": "circle", "fc": colour, "ec": "none"}
        top.text(x, y, str(node[0]), ha="center", va="center", color=INK, bbox=box)
    top.set(xlim=(0, WIDE), ylim=(-0.5, 0.5 + max(y for _, y in places.values())))
    top.set_axis_off()
    colours = colours_of(example)
    colours[example.prompt_length - 2] = GIVEN
    draw_tokens(bottom, words, colours, 20)
    draw_legend(
        figure,
        {PLAIN: "told: parent, child, ...", GIVEN: "asked", TRAINED: "what it depends on, parents first; trained on"},
    )
    return figure
