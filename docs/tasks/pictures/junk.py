"""JunkD: two epochs of a few useful people among junk. The useful come again, the junk does not."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures import GIVEN, PLAIN, TRAINED, Piece, finish_page, flow, heading, page
from synth import Corpus
from synth.tasks.junk import USEFUL_TOKEN, JunkD

SIDE = 50  # characters from the left end of one epoch to that of the other
FILLS = (TRAINED, GIVEN)  # one for each useful person
STEP = 1.05  # lines from one document to the next


def row(axes: Axes, x: float, y: float, words: list[str], name: int, fill: str) -> None:
    """A document: the domain token where there is one, the name (so many words), then the attributes."""
    token = int(words[1] == USEFUL_TOKEN)
    if token:
        flow(axes, [Piece(USEFUL_TOKEN, fill)], y, left=x)
    named, told = words[1 + token : 1 + token + name], words[1 + token + name : -1]
    flow(axes, [Piece(" ".join(named), fill), Piece(" ".join(told), fill)], y, left=x + 10)


def draw() -> Figure:
    """Every document of two epochs, in the order of training."""
    task = JunkD(people=len(FILLS), kinds=2, junk=7, token=True)
    corpus = Corpus(task, 0)
    size = task.num_items(corpus.world)
    figure, axes = page()
    for epoch in range(2):
        left = 1 + SIDE * epoch
        heading(axes, 0.7, f"Epoch {epoch + 1}", left - 0.5)
        block = corpus.documents(epoch * size, (epoch + 1) * size)
        for i in range(size):
            example = block[i]
            fill = FILLS[int(example.slices["person"])] if example.slices["useful"] else PLAIN
            row(axes, left, 1.8 + STEP * i, task.vocab().decode(example.tokens), task.name_length, fill)
    people = [Piece(f"useful person {i + 1}", fill) for i, fill in enumerate(FILLS)]
    return finish_page(figure, 2.1 + STEP * size, [*people, Piece("junk: somebody new in every document", PLAIN)])
