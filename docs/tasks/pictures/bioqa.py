"""BioS-qa: what each half of the people is for. One half is asked about in training, the other in the test."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures import GIVEN, PLAIN, TRAINED, Piece, finish_page, flow, heading, page, write
from pictures.bios import test_document
from synth.bio.value_lists import ATTRIBUTES
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS, Half

PEOPLE = 20
SHOWN = ("birth date", "university", "employer")  # of the six questions about a person
SOME = 9  # words of a biography that are shown


def opening(axes: Axes, y: float, half: Half) -> float:
    """How the biography of the half's first person begins; returns the line after it."""
    task = BioS(PEOPLE, half=half)
    words = task.vocab().decode(test_document(task, 0).tokens)[1:]
    write(axes, 2, y, "trained on: biographies", 0.9, family="sans-serif")
    return flow(axes, [Piece(" ".join([*words[:SOME], "..."]), TRAINED)], y + 1, left=4)


def questions(axes: Axes, y: float, half: Half, purpose: str, fill: str) -> float:
    """Questions about the first person of the half, with their answers in this colour; returns the line after them."""
    write(axes, 2, y + 0.2, purpose, 0.9, family="sans-serif")
    task = BioQuestions(PEOPLE, half=half)
    for row, name in enumerate(SHOWN):
        example = test_document(task, ATTRIBUTES.index(name))
        words = task.vocab().decode(example.tokens)
        question, answer = words[1 : example.prompt_length], words[example.prompt_length : -1]
        flow(axes, [Piece(" ".join(question), PLAIN), Piece(" ".join(answer), fill)], y + 1.2 + row, left=4)
    return y + 1.6 + len(SHOWN)


def draw() -> Figure:
    """The openings of two biographies, and three questions about each of the two people."""
    figure, axes = page()
    heading(axes, 0.7, "First half of the people")
    y = opening(axes, 1.8, "first")
    y = questions(axes, y, "first", "trained on: questions, the loss on the answers", TRAINED)
    heading(axes, y, "Second half of the people")
    y = opening(axes, y + 1.1, "second")
    y = questions(axes, y, "second", "test: can it answer about somebody whom it only read about?", GIVEN)
    return finish_page(
        figure, y, [Piece("given", PLAIN), Piece("trained on", TRAINED), Piece("right, if generated", GIVEN)]
    )
