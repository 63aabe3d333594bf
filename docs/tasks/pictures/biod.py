"""BioD: a person's name and chunks, and the sets of strings from which the chunks are drawn."""

from matplotlib.figure import Figure

from pictures import GIVEN, PLAIN, TRAINED, Piece, finish_page, first_test_example, flow, heading, page, write
from synth import Corpus
from synth.bio.world import NAME_PART
from synth.tasks.biod import BioD


def draw() -> Figure:
    """The first test document, and below it every attribute's set, with the strings that the person has."""
    task = BioD(people=100, kinds=3, chunks=2, set_size=8, length=2, alphabet=32)
    example, words = first_test_example(task)
    labels = example.labels
    figure, axes = page()
    heading(axes, 0.7, "A document: a name, then each attribute's mark and its two chunks")
    pieces = [Piece(words[0])]
    name = [word for word, part in zip(words, labels["part"], strict=True) if part == NAME_PART]
    pieces.append(Piece(" ".join(name), GIVEN, "name"))
    at = 1 + len(name)
    while at < len(words) - 1:
        pieces.append(Piece(words[at], PLAIN, "mark"))
        for chunk in range(task.chunks):
            begin = at + 1 + chunk * task.length
            pieces.append(Piece(" ".join(words[begin : begin + task.length]), TRAINED, f"chunk {chunk + 1}"))
        at += 1 + task.chunks * task.length
    flow(axes, [*pieces, Piece(words[-1])], 2)
    heading(axes, 4.6, "What chunks are drawn from: each attribute has its own set of strings; yellow: this person's")
    world = Corpus(task, 0, "test").world
    person = int(example.slices["person"])
    for k, attribute in enumerate(task.attributes):
        write(axes, 0.5, 6 + 1.5 * k, attribute)
        strings = [" ".join(f"s{symbol}" for symbol in string) for string in world.strings[k]]
        has = world.values[person, k].tolist()
        notes = {j: "chunk " + ", ".join(str(c + 1) for c, value in enumerate(has) if value == j) for j in has}
        sets = [Piece(s, TRAINED if j in notes else PLAIN, notes.get(j, "")) for j, s in enumerate(strings)]
        flow(axes, sets, 6 + 1.5 * k, left=5)
    return finish_page(figure, 6.5 + 1.5 * task.kinds)
