"""BioS and bioR: one person told by sentence templates and in free prose, and a question about them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures import PLAIN, Piece, finish_page, flow, heading, page
from synth import Corpus, Example
from synth.bio.value_lists import ATTRIBUTES
from synth.bio.world import NAME_PART, VALUE_PART
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

PEOPLE = 1000
PERSON = 3  # whoever it is
COLOURS = ("#ffe97f", "#98a6e6", "#e08a70", "#8fd0b5", "#dca6cc", "#f5b04a")  # one for each attribute


def test_document(task: BioS, item: int) -> Example:
    """The test document of this item, as its first epoch tells it."""
    return Corpus(task, 0, "test").render_items(np.array([item]), np.array([0]), labels=True)[0]


def coloured_pieces(task: BioS, example: Example) -> list[Piece]:
    """The words of a document, with boxes around the name and the values, each value with the name of its attribute."""
    pieces: list[Piece] = []
    last = -1
    columns = (example.labels[name].tolist() for name in ("part", "attribute"))
    for word, part, about in zip(task.vocab().decode(example.tokens), *columns, strict=True):
        kind = about if part == VALUE_PART and about < len(ATTRIBUTES) else -2 if part == NAME_PART else -1
        if kind != -1 and kind == last:
            pieces[-1] = Piece(f"{pieces[-1].text} {word}", pieces[-1].colour, pieces[-1].note)
        elif kind == -1:
            pieces.append(Piece(word))
        else:
            pieces.append(Piece(word, PLAIN, "name") if kind == -2 else Piece(word, COLOURS[kind], ATTRIBUTES[kind]))
        last = kind
    return pieces


def biography(axes: Axes, y: float, title: str, task: BioS, item: int) -> float:
    """A document under its title; returns the line after it."""
    heading(axes, y, title)
    return flow(axes, coloured_pieces(task, test_document(task, item)), y + 1.2, step=1.6) + 0.3


def draw() -> Figure:
    """The same person three times: bioS, bioR, and a question of bioS-qa."""
    figure, axes = page()
    y = biography(axes, 0.7, "bioS: a sentence for each of six attributes, its wording drawn", BioS(PEOPLE), PERSON)
    y = biography(axes, y, "bioR: the same facts in free prose", BioS(PEOPLE, style="prose"), PERSON)
    asked = BioQuestions(PEOPLE)
    item = len(ATTRIBUTES) * PERSON + ATTRIBUTES.index("major")
    y = biography(axes, y, "bioS-qa: a question about one of them", asked, item)
    return finish_page(figure, y)
