"""The check of figures finds planted faults, passes clean figures, and holds for every committed table."""

from pathlib import Path

import pytest

from experiments.harness.experiment import TABLE_NAME, Experiment, discover
from experiments.harness.reporting import figures
from experiments.harness.reporting.figures.checks import find_overlaps
from experiments.harness.reporting.table import read_table

RESULTS = Path(__file__).resolve().parents[3] / "results"
TABLES = [(e, scale) for e in discover() for scale in e.scales_with_tables(RESULTS)]
# Figures that still have a fault. The list only shrinks: one that is clean must be struck off.
KNOWN: set[str] = set()


@pytest.mark.parametrize(("experiment", "scale"), TABLES, ids=[f"{e.name}-{scale}" for e, scale in TABLES])
def test_a_committed_figure_is_legible(experiment: Experiment, scale: str) -> None:
    table = read_table(RESULTS / experiment.name / scale / TABLE_NAME)
    with figures.style():
        faults = find_overlaps(experiment.load_module().figure(table))
    if f"{experiment.name}-{scale}" in KNOWN:
        assert faults, f"the figure is clean now: strike {experiment.name}-{scale} off KNOWN"
    else:
        assert not faults, "\n".join(faults)


# ---- planted faults --------------------------------------------------------------------------------------------
@pytest.fixture
def page():
    """A clean figure and its panel."""
    with figures.style():
        figure, (axes,) = figures.subplots()
        axes.plot([0, 1, 2], [0.0, 0.5, 1.0], "o-", label="a line")
        axes.set(title="a title", xlabel="x", ylabel="y")
        yield figure, axes


def test_a_clean_figure_has_no_fault(page):
    figure, axes = page
    figures.legend_outside(axes)
    figures.set_title(figure, "a headline")
    figures.set_caption(figure, "a caption")
    assert find_overlaps(figure) == []


def test_a_single_pixel_is_no_overlap(page):
    figure, axes = page
    figure.canvas.draw_idle()
    find_overlaps(figure)  # lays the panel out
    first = axes.text(0.1, 0.8, "first", transform=axes.transAxes)
    box = first.get_window_extent()
    for step, faults in ((-1.0, 0), (-6.0, 1)):
        x, y = axes.transAxes.inverted().transform((box.x1 + step, box.y0))
        second = axes.text(x, y, "second", transform=axes.transAxes)
        assert len(find_overlaps(figure)) == faults
        second.remove()


def test_texts_on_each_other_are_found(page):
    figure, axes = page
    axes.text(0.1, 0.8, "one", transform=axes.transAxes)
    axes.text(0.11, 0.81, "two", transform=axes.transAxes)
    assert find_overlaps(figure) == ["text 'one' overlaps text 'two'"]


def test_crowded_tick_labels_are_found(page):
    figure, axes = page
    axes.set_xticks([1.0, 1.02], ["many words", "more words"])
    assert find_overlaps(figure) == ["tick label 'many words' overlaps tick label 'more words'"]


def test_slanted_tick_labels_side_by_side_are_clean(page):
    """The upright boxes around them overlap, they do not."""
    figure, axes = page
    axes.set_xticks(
        [0, 0.3, 0.6, 0.9], ["a long name of a category"] * 4, rotation=45, ha="right", rotation_mode="anchor"
    )
    assert find_overlaps(figure) == []


def test_ticks_beyond_the_limits_are_not_drawn_and_do_not_count(page):
    figure, axes = page
    axes.set_xticks([0, 1, 50, 50.01], ["0", "1", "far away", "farther away"])
    axes.set_xlim(-0.1, 2.1)
    assert find_overlaps(figure) == []


def test_a_text_cut_by_the_edge_is_found(page):
    figure, _ = page
    figure.text(0.95, 0.5, "a text that is too long", in_layout=False)
    assert "title or caption 'a text that is too long' is cut by the edge of the figure" in find_overlaps(figure)


def test_hidden_and_empty_texts_do_not_count(page):
    figure, axes = page
    axes.text(0.1, 0.8, "one", transform=axes.transAxes)
    axes.text(0.1, 0.8, "hidden", transform=axes.transAxes, visible=False)
    axes.text(0.1, 0.8, " ", transform=axes.transAxes)
    assert find_overlaps(figure) == []


@pytest.mark.parametrize("kind", ["dots", "line", "scatter", "bar", "band", "error bar"])
def test_a_legend_on_data_is_found(page, kind):
    figure, axes = page
    draw = {
        "dots": lambda: axes.plot([2], [0.05], "o"),
        "line": lambda: axes.plot([1, 2], [0.05, 0.05]),
        "scatter": lambda: axes.scatter([1.98], [0.05]),
        "bar": lambda: axes.bar([2], [0.2], width=0.1),
        "band": lambda: axes.fill_between([1, 2], [0, 0], [0.2, 0.2], alpha=0.2),
        "error bar": lambda: axes.errorbar([1.9], [0.3], yerr=[[0.28], [0.1]], fmt="none"),
    }
    axes.legend(loc="lower right")
    axes.set(xlim=(-0.1, 2.1), ylim=(-0.05, 1.05))
    assert find_overlaps(figure) == []
    draw[kind]()
    assert find_overlaps(figure) == ["legend 'a line' covers data"]


def test_a_legend_may_lie_on_a_pale_background(page):
    figure, axes = page
    axes.axhspan(0, 0.2, alpha=0.1)
    axes.legend(loc="lower right")
    assert find_overlaps(figure) == []


@pytest.mark.parametrize("line", ["axhline", "hlines"])
def test_a_text_struck_through_is_found(page, line):
    figure, axes = page
    axes.text(0.1, 0.8, "chance", va="center")
    assert find_overlaps(figure) == []
    getattr(axes, line)(0.8, *((0, 1) if line == "axhline" else (0, 2)))
    assert find_overlaps(figure) == ["text 'chance' is struck through by a line"]


def test_a_label_in_the_margin_is_not_struck_through(page):
    figure, axes = page
    figures.plot_floor(axes, 0.8)
    assert find_overlaps(figure) == []


def test_letters_too_small_for_a_slide_are_found():
    with figures.style():
        figure, panels = figures.subplots(columns=3, width=9.0)
        panels[0].set_title("title")
        (fault,) = [fault for fault in find_overlaps(figure) if "11 points" in fault]
    assert fault.endswith("have 5.4 on a slide")


def test_an_axis_beyond_its_range_is_found(page):
    figure, axes = page
    figures.end_axis(axes, 0, 1)
    assert find_overlaps(figure) == []
    axes.set_ylim(-0.02, 1.4)
    assert find_overlaps(figure) == ["the y-axis of 'a title' runs from -0.02 to 1.4, its quantity from 0 to 1"]


def test_an_axis_of_shares_ends_at_one(page):
    figure, axes = page
    axes.set(ylabel="share right", ylim=(-0.02, 1.4))
    assert len(find_overlaps(figure)) == 1
