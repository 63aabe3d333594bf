"""Mano: the tree of an expression with the value of every part, over the document."""

from matplotlib.figure import Figure

from pictures import ASIDE, INK, PLAIN, TRAINED, colours_of, draw_legend, draw_tokens, first_test_example
from synth.tasks.mano import Mano


def draw() -> Figure:
    """The tree of the expression with the value of every part, over the document."""
    task = Mano(ops=5).hardest()
    example, words = first_test_example(task)
    leaves, height = 0, {"deepest": 0}
    figure = Figure(figsize=(8, 5))
    top, bottom = figure.subplots(2, 1, height_ratios=(4, 1))

    def draw(at: int, depth: int) -> tuple[int, float]:
        """Draws the part that begins at token `at`; returns where the next begins, and how far right its top is."""
        nonlocal leaves
        height["deepest"] = max(height["deepest"], depth)
        if words[at].isdigit():
            leaves += 1
            end, x, text = at + 1, leaves - 1.0, words[at]
        else:
            middle, left = draw(at + 1, depth + 1)
            end, right = draw(middle, depth + 1)
            x, text = (left + right) / 2, f"{words[at]}\n= {task.evaluate(example.tokens[at:end])}"
            for child in (left, right):
                top.plot([x, child], [-depth, -depth - 1], color=ASIDE, lw=1, zorder=0)
        colour = TRAINED if depth == 0 else PLAIN
        top.text(
            x, -depth, text, ha="center", va="center", color=INK, bbox={"boxstyle": "round", "fc": colour, "ec": "none"}
        )
        return end, x

    draw(2, 0)
    top.set(xlim=(-0.7, leaves - 0.3), ylim=(-height["deepest"] - 0.5, 0.5))
    top.set_axis_off()
    top.grid(False)
    draw_tokens(bottom, words, colours_of(example), len(words))
    draw_legend(
        figure,
        {PLAIN: "parts, with their values modulo 23 (not written)", TRAINED: "answer; in the document: trained on"},
    )
    return figure
