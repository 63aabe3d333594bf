"""Figures: the same bytes for the same table, the paper's number and the seeds on them."""

import numpy as np
import pandas

from experiments.harness.reporting import figures

TABLE = pandas.DataFrame(
    {"kind": ["a", "a", "b", "b", "c"], "size": ["s", "l", "s", "l", "s"], "score": [1.0, 3.0, 2.0, 4.0, np.nan]}
)


def draw(folder, note=""):
    with figures.style():
        figure, (left, right) = figures.subplots(columns=2)
        drawn = figures.plot_means_with_ci(left, TABLE, "kind", "score", order=["a", "b", "c"])
        figures.plot_paper_values(left, {"b": 3.5}, ["a", "b", "c"])
        figures.plot_means_with_ci(right, TABLE, "kind", "score", hue="size")
        figures.plot_paper_line(right, 2.5)
        figures.plot_baseline(right, 0.5)
        figures.set_title(figure, "a title " * 40)
        return drawn, figure, figures.save(figure, folder, note)


def test_the_same_figure_is_the_same_bytes(tmp_path):
    _, _, first = draw(tmp_path / "a", "2 of 4 runs so far")
    _, _, second = draw(tmp_path / "b", "2 of 4 runs so far")
    assert [path.name for path in first] == ["figure.png", "figure.svg"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_points_draw_every_seed_and_return_the_interval(tmp_path):
    drawn, figure, _ = draw(tmp_path)
    assert drawn["a", None].mean == 2.0 and drawn["a", None].n == 2
    assert ("c", None) not in drawn
    assert figure.get_suptitle().count("\n") >= 1
    dots = [line for line in figure.axes[0].lines if line.get_alpha() == 0.4]
    assert sorted(y for line in dots for y in line.get_ydata()) == [1.0, 2.0, 3.0, 4.0]


def test_a_figure_does_not_depend_on_the_readers_settings(tmp_path):
    import matplotlib

    _, _, first = draw(tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        _, _, second = draw(tmp_path / "b")
    assert first[0].read_bytes() == second[0].read_bytes()


def test_the_paper_marks_only_what_is_there():
    """A figure is redrawn after every run, before all categories have come."""
    axes = figures.subplots()[1][0]
    figures.plot_paper_values(axes, {"x": 1.0, "a": 2.0}, ["a"])
    (mark,) = axes.collections
    assert mark.get_segments()[0][:, 1].tolist() == [2.0, 2.0]
