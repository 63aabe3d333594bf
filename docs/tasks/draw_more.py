"""Draw the pictures of brevo and recall as draw.py does: python docs/tasks/draw_more.py brevo recall."""

import sys

import matplotlib.pyplot as plt
import numpy as np
from draw import GIVEN, INK, PICTURES, PLAIN, TRAINED, colours_of, main, sampled, strip
from matplotlib.figure import Figure

from synth import UserError
from synth.tasks.brevo import Brevo, Question, Word
from synth.tasks.recall import Recall

PATH, ASIDE = "#d1841f", "#9aa3ad"
WIDE = 10.0  # of the picture of a graph, where a level is about 1 high
MATCH = {"arrowstyle": "-|>", "color": PATH, "connectionstyle": "arc3,rad=0.35", "lw": 1.2}
TOLD = MATCH | {"color": ASIDE, "connectionstyle": "arc3,rad=0.7"}


def height(question: Question, node: Word) -> int:
    """The most edges from a node down to a leaf."""
    return 1 + max((height(question, parent) for parent in question.parents.get(node, ())), default=-1)


def scattered(question: Question, seed: int) -> dict[Word, np.ndarray]:
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


def brevo() -> Figure:
    """The graph, leaves at the bottom, with what the asked node depends on, over the document."""
    task = Brevo(nodes=10).hardest()
    example, words = sampled(task)
    question = task.read(example.prompt)
    assert question
    edges = [(child, parent) for child, parents in question.parents.items() for parent in sorted(parents)]
    places = max((scattered(question, seed) for seed in range(2000)), key=lambda found: clearance(found, edges))
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 5.6), height_ratios=(3, 2))
    for child, parent in edges:
        colour, width = (PATH, 2) if child in question.needed else (ASIDE, 1)
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 11, "shrinkB": 11}
        top.annotate("", places[parent], places[child], arrowprops=arrow)
    for node, (x, y) in places.items():
        colour = GIVEN if node == question.asked else TRAINED if node in question.needed else PLAIN
        box = {"boxstyle": "circle", "fc": colour, "ec": "none"}
        top.text(x, y, str(node[0]), ha="center", va="center", color=INK, bbox=box)
    top.set(xlim=(0, WIDE), ylim=(-0.5, 0.5 + max(y for _, y in places.values())))
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
