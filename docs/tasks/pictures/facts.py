"""Facts: a row of each half of the table, its text, and a question: trained on for one half, the test for the other."""

from itertools import pairwise

from matplotlib.figure import Figure

from pictures import GIVEN, PLAIN, TRAINED, Piece, finish_page, flow, heading, page, write
from synth import Corpus
from synth.task import Example
from synth.tasks.facts import Facts, Half


def first_document(task: Facts, row: int | None = None, attribute: str = "all") -> Example:
    """The first test document of seed 0 about an attribute (all: a text) of a row (None: any)."""
    corpus = Corpus(task, 0, "test")
    block = corpus.documents(0, corpus.num_items or 0)
    found = (block[i] for i in range(len(block)))
    return next(e for e in found if e.slices["attribute"] == attribute and row in (None, e.slices["subject"]))


def sentences(words: list[str]) -> list[str]:
    """The heading and the sentences of a text, each as one string."""
    ends = [0, *(i + 1 for i, word in enumerate(words) if word in (":", "."))]
    return [" ".join(words[a:b]) for a, b in pairwise(ends)]


def draw() -> Figure:
    """For a subject of each half its row, its text, and the question about its first attribute."""
    figure, axes = page()
    y = 0.7
    kinds: tuple[tuple[Half, str, str, str], ...] = (
        ("first", "Half that is asked about in training", "trained on: questions with their answers", TRAINED),
        ("second", "Half held out", "test: does it answer about what it only read?", GIVEN),
    )
    for half, title, purpose, fill in kinds:
        task = Facts(half=half)
        text = first_document(task)
        row, words = int(text.slices["subject"]), task.vocab().decode(text.tokens)
        question = first_document(task.as_questions(half), row, task.attributes[0])
        asked, prompt = task.vocab().decode(question.tokens), question.prompt_length
        heading(axes, y, title)
        cells = [" ".join(cell) for cell in (task.table.names[row], *(column[row] for column in task.table.columns))]
        write(axes, 2, y + 1.1, f"a row of the table: {', '.join(cells)}", 0.9, family="sans-serif")
        y = flow(axes, [Piece(text, TRAINED) for text in sentences(words[1:-1])], y + 2.2, left=4)
        write(axes, 2, y + 0.2, purpose, 0.9, family="sans-serif")
        pieces = [Piece(" ".join(asked[1:prompt]), PLAIN), Piece(" ".join(asked[prompt:-1]), fill)]
        y = flow(axes, pieces, y + 1.2, left=4) + 0.6
    return finish_page(
        figure, y, [Piece("given", PLAIN), Piece("trained on", TRAINED), Piece("right, if generated", GIVEN)]
    )
