"""BioS-manipulate: a comparison of two people with the facts written out and without, and a search the other way."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures import GIVEN, PLAIN, TRAINED, Piece, finish_page, flow, heading, page
from synth import Example
from synth.bio.manipulation import DIRECT, HINT
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bios import BioS

PEOPLE = 1000
PERSON = 10  # whoever it is
ANSWER = ["Answer", ":"]


def document(task: BioS, item: int) -> tuple[Example, list[str]]:
    """What the first epoch tells about an item, and the names of its tokens; all tasks draw the same second person."""
    example = task.render_block(task.world(0), np.array([item]), np.array([0]), ("a picture",), "test")[0]
    return example, task.vocab().decode(example.tokens)


def opening(person: int) -> list[Piece]:
    """The sentence of a biography that tells the birth date."""
    _, words = document(BioS(PEOPLE), person)
    return [Piece(" ".join([*words[1 : words.index(".") + 1], "..."]), PLAIN)]


def draw_answer(axes: Axes, y: float, example: Example, words: list[str]) -> float:
    """A question and what follows it; returns the line after it."""
    prompt, said = words[1 : example.prompt_length - len(ANSWER)], words[example.prompt_length : -1]
    pieces = [Piece(word, GIVEN, "control token") if word in (HINT, DIRECT) else Piece(word) for word in prompt]
    pieces.append(Piece(" ".join(ANSWER)))
    stop = said.index(".") + 1 if example.slices["hint"] else 0
    if stop:
        pieces.append(Piece(" ".join(said[:stop]), TRAINED, "facts"))
    pieces.append(Piece(" ".join(said[stop:]), TRAINED, "answer"))
    return flow(axes, pieces, y, step=1.5) + 0.5


def draw() -> Figure:
    """What is known of two people, who was born in the later month, and who a person is with such facts."""
    figure, axes = page()
    question = BioManipulate(PEOPLE, question="month_rank", hint=1)
    other = int(document(question, PERSON)[0].slices["other"])
    heading(axes, 0.7, "Known from biographies")
    for row, person in enumerate((PERSON, other)):
        flow(axes, opening(person), 1.8 + row)
    y = 4.3
    asked = {
        "A comparison, the facts written out first": question,
        "The same comparison at once": BioManipulate(PEOPLE, question="month_rank", hint=0),
        "Inverse search: whom are these facts about?": BioManipulate(PEOPLE, question="birth_to_full"),
    }
    for title, task in asked.items():
        heading(axes, y, title)
        y = draw_answer(axes, y + 1.1, *document(task, PERSON))
    return finish_page(figure, y, [Piece("trained on", TRAINED)])
