"""Figures: the same bytes for the same table, every seed and the verdict's interval on them, labels off the data."""

from functools import partial

import numpy as np
import pandas
import pytest

from experiments.harness.reporting import figures
from experiments.harness.reporting.figures.checks import find_overlaps
from experiments.harness.statistics.estimates import mean_of, ratio_of, share_of

TABLE = pandas.DataFrame(
    {"kind": ["a", "a", "b", "b", "c"], "size": ["s", "l", "s", "l", "s"], "score": [1.0, 3.0, 2.0, 4.0, np.nan]}
)
ARCHITECTURES = ["rotary", "rotary + Canon", "NoPE", "NoPE + Canon"]
SHARES = pandas.DataFrame(
    {"architecture": name, "steps": steps, "seed_init": seed, "score": min(0.2 * k + 0.01 * steps + 0.02 * seed, 1.0)}
    for k, name in enumerate(ARCHITECTURES)
    for steps in (0, 1, 3, 10, 30)
    for seed in range(3)
)


@pytest.fixture(autouse=True)
def suite_style():
    with figures.style():
        yield


def panel(width=6.0, height=4.0):
    figure, (axes,) = figures.subplots(width=width, height=height)
    return figure, axes


def dots(axes):
    """The seeds' dots by line: x and y."""
    return [(line.get_xdata(), line.get_ydata()) for line in axes.lines if line.get_alpha() == 0.4]


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


# ---- files -----------------------------------------------------------------------------------------------------
def test_the_same_figure_is_the_same_bytes(tmp_path):
    _, _, first = draw(tmp_path / "a", "2 of 4 runs so far")
    _, _, second = draw(tmp_path / "b", "2 of 4 runs so far")
    assert [path.name for path in first] == ["figure.png", "figure.svg"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_a_figure_does_not_depend_on_the_readers_settings(tmp_path):
    import matplotlib

    _, _, first = draw(tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        _, _, second = draw(tmp_path / "b")
    assert first[0].read_bytes() == second[0].read_bytes()


def test_a_note_stands_below_the_caption(tmp_path):
    figure, _ = panel()
    figures.set_caption(figure, "three seeds")
    height = figure.get_figheight()
    figures.save(figure, tmp_path, "2 of 4 runs so far", name="grid")
    assert figure.get_supxlabel() == "three seeds\n2 of 4 runs so far"
    assert figure.get_figheight() > height
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "grid.svg"]


# ---- means -----------------------------------------------------------------------------------------------------
def test_points_draw_every_seed_and_return_the_interval(tmp_path):
    drawn, figure, _ = draw(tmp_path)
    assert drawn["a", None].mean == 2.0 and drawn["a", None].n == 2
    assert ("c", None) not in drawn
    assert figure.get_suptitle().count("\n") >= 1
    assert sorted(y for _, ys in dots(figure.axes[0]) for y in ys) == [1.0, 2.0, 3.0, 4.0]


def test_rows_of_a_seed_are_averaged_and_the_interval_is_that_of_the_estimate():
    table = pandas.DataFrame({"x": "a", "y": [0.0, 1.0, 0.6, 0.8], "seed_init": [0, 0, 1, 1]})
    _, axes = panel()
    drawn = figures.plot_means_with_ci(axes, table, "x", "y", estimate=partial(share_of, items=50))
    seeds = pandas.Series([0.5, 0.7])
    assert drawn["a", None] == share_of(seeds, 50).interval()
    ((_, ys),) = dots(axes)
    assert list(ys) == [0.5, 0.7]
    (bars,) = axes.containers
    assert bars[2][0].get_segments()[0][:, 1] == pytest.approx([drawn["a", None].low, drawn["a", None].high])


def test_intervals_and_axis_end_where_the_quantity_ends():
    table = pandas.DataFrame({"x": "a", "y": [0.1, 1.0], "seed_init": [0, 1]})
    _, axes = panel()
    drawn = figures.plot_means_with_ci(axes, table, "x", "y", limits=(0, 1))
    assert mean_of(table["y"]).interval().high > 1  # Student's interval would leave the range
    assert (drawn["a", None].low, drawn["a", None].high) == (0, 1)
    assert -0.1 < axes.get_ylim()[0] < 0 and 1 < axes.get_ylim()[1] < 1.1
    assert list(axes.get_yticks()) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_an_interval_without_end_is_no_bar_but_a_line_across():
    table = pandas.DataFrame({"x": "a", "y": [1.0, 2.0], "seed_init": [0, 1]})
    near_zero = pandas.Series([1.0, -0.9], index=[0, 1])
    _, axes = panel()
    drawn = figures.plot_means_with_ci(axes, table, "x", "y", estimate=lambda values: ratio_of(values, near_zero))
    assert np.isinf(drawn["a", None].high)
    assert any(line.get_linestyle() == ":" for line in axes.lines)
    assert not axes.containers[0].has_yerr


def test_names_of_categories_fit_their_places():
    names = [f"a condition with a long name, number {k}" for k in range(6)]
    table = pandas.DataFrame({"x": names, "y": 1.0})
    figure, axes = panel(width=8)
    figures.plot_means_with_ci(axes, table, "x", "y")
    assert any("\n" in label.get_text() for label in axes.get_xticklabels())
    assert not find_overlaps(figure)


# ---- curves ----------------------------------------------------------------------------------------------------
def test_curves_draw_a_line_per_seed_and_their_mean():
    _, axes = panel()
    drawn = figures.plot_curves(axes, SHARES, "steps", "score", "architecture", limits=(0, 1))
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    thick = {line.get_label(): line for line in axes.lines if line.get_linewidth() > 2}
    assert len(thin) == 3 * len(ARCHITECTURES)
    assert list(thick["rotary"].get_ydata()) == pytest.approx([0.02, 0.03, 0.05, 0.12, 0.32])
    assert drawn[0, "rotary"].n == 3 and drawn[0, "rotary"].mean == pytest.approx(0.02)
    assert len(axes.collections) == len(ARCHITECTURES)  # bands


def test_curves_are_named_in_the_order_in_which_they_end():
    _, axes = panel()
    figures.plot_curves(axes, SHARES[SHARES["steps"] > 0], "steps", "score", "architecture")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ARCHITECTURES[::-1]
    assert axes.get_xscale() == "log"


def test_steps_from_zero_have_an_axis_too():
    figure, axes = panel()
    figures.plot_curves(axes, SHARES, "steps", "score", "architecture")
    assert axes.get_xscale() == "symlog"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "3", "10", "30"]
    assert not find_overlaps(figure)


# ---- colours and words -----------------------------------------------------------------------------------------
def test_an_architecture_has_one_colour_in_every_figure():
    _, axes = panel()
    figures.plot_means_with_ci(axes, SHARES, "steps", "score", "architecture")
    _, other = panel()
    figures.plot_means_with_ci(other, SHARES[SHARES["architecture"] != "rotary"], "architecture", "score")
    legend = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    second = [line for line in other.lines if line.get_alpha() == 0.4][1]
    assert legend["NoPE"].get_color() == figures.color_of("NoPE") == second.get_color()


def test_canon_is_darker_and_no_convolution_lighter():
    light, plain, dark = (sum(figures.color_of(f"GLA{end}")) for end in (" without convolution", "", " + Canon"))
    assert light > plain > dark


def test_the_architectures_of_a_figure_differ():
    sets = (
        [*ARCHITECTURES, "quarter rotary + Canon", "ALiBi", "H-ALiBi"],
        ["learned", "rotary", "relative", "position_only", "uniform"],
        ["GPT-2", "quarter MLP", "no MLP", "silu", "gated MLP", "LLaMA"],
        ["rotary", "untrained", "encoder", "relative encoder"],
    )
    for names in sets:
        found = np.array([figures.color_of(name) for name in names])
        apart = np.abs(found[:, None] - found[None]).sum(axis=2) + 9 * np.eye(len(names))
        assert apart.min() > 0.25, names


def test_an_unknown_name_keeps_its_colour():
    assert figures.color_of("my architecture") == figures.color_of("my architecture")
    assert not figures.is_architecture("my architecture")


def test_conditions_are_named_in_words():
    labels = {"multi5+permute": "five wordings, shuffled"}
    assert figures.label_of("multi5+permute", labels) == "five wordings, shuffled"
    assert figures.label_of("position_only") == "position only"
    _, axes = panel()
    figures.plot_means_with_ci(axes, TABLE, "kind", "score", "size", labels={"a": "first", "s": "small"})
    assert axes.get_xticklabels()[0].get_text() == "first"
    assert "small" in [text.get_text() for text in axes.get_legend().get_texts()]


# ---- floor, ceiling, paper -------------------------------------------------------------------------------------
def test_the_paper_marks_only_what_is_there():
    """A figure is redrawn after every run, before all categories have come."""
    _, axes = panel()
    figures.plot_paper_values(axes, {"x": 1.0, "a": 2.0}, ["a"])
    (mark,) = axes.collections
    assert mark.get_segments()[0][:, 1].tolist() == [2.0, 2.0]


def test_a_larger_task_stands_apart_from_our_points():
    _, axes = panel()
    figures.plot_means_with_ci(axes, TABLE, "kind", "score", order=["a", "b"])
    figures.plot_paper_values(axes, {"a": 2.0, "b": 3.0}, ["a", "b"], larger_task=True)
    hollow = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_ydata()[0] for line in hollow] == [2.0, 3.0]
    assert all(line.get_xdata()[0] > 1.5 and line.get_markerfacecolor() == "none" for line in hollow)
    assert "larger" in axes.get_xticklabels()[-1].get_text()


def test_lines_across_are_labelled_beside_the_panel_and_apart():
    figure, axes = panel()
    figures.plot_means_with_ci(axes, SHARES, "architecture", "score", limits=(0, 1))
    figures.plot_floor(axes, 0.05)
    figures.plot_ceiling(axes, 0.99)
    figures.plot_paper_line(axes, 0.98)
    figures.legend_outside(axes, "right")
    assert not find_overlaps(figure)
    assert all(text.get_window_extent().x0 > axes.bbox.x1 for text in axes.texts)


# ---- legends ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("side", ["below", "right"])
def test_a_legend_outside_is_clear_of_data_labels_and_caption(side):
    figure, axes = panel()
    figures.plot_means_with_ci(axes, SHARES, "steps", "score", "architecture", limits=(0, 1), legend=False)
    axes.set(xlabel="steps", ylabel="share right")
    figures.legend_outside(axes, side)
    figures.set_title(figure, "What do Canon layers give?")
    figures.set_caption(figure, "Dots are seeds. " * 20)
    assert not find_overlaps(figure)


def test_a_shared_legend_has_every_name_once():
    figure, panels = figures.subplots(columns=2)
    for axes in panels:
        figures.plot_means_with_ci(axes, SHARES, "steps", "score", "architecture", limits=(0, 1))
        axes.set_xlabel("steps")
    figures.set_caption(figure, "Dots are seeds. " * 20)
    legend = figures.share_legend(figure)
    assert [text.get_text() for text in legend.get_texts()] == ARCHITECTURES
    assert all(axes.get_legend() is None for axes in panels)
    assert not find_overlaps(figure)


def test_nothing_to_explain_is_no_legend():
    figure, axes = panel()
    assert figures.legend_outside(axes) is None
    assert figures.share_legend(figure) is None


# ---- grids -----------------------------------------------------------------------------------------------------
def grid_table():
    """Arm "a" is best at 2e-3; "b" at 4e-3, the edge, and diverged at 1e-3."""
    losses = {"a": (1.5, 1.0, 1.4), "b": (np.nan, 1.3, 1.2)}
    rows = [
        {"arm": arm, "task": "depo", "lr": lr, "seed": 1000, "criterion": loss, "criterion_name": "train_loss"}
        for arm, values in losses.items()
        for lr, loss in zip((1e-3, 2e-3, 4e-3), values, strict=True)
    ]
    table = pandas.DataFrame(rows)
    chosen = [(row.arm, row.lr) in (("a", 2e-3), ("b", 4e-3)) for row in table.itertuples()]
    return table.assign(
        chosen=chosen, edge=[flag and arm == "b" for flag, arm in zip(chosen, table["arm"], strict=True)]
    )


def test_a_grid_frames_what_was_chosen_and_flags_the_edge():
    figure = figures.draw_grid(grid_table())
    (axes,) = figure.axes
    frames = [patch for patch in axes.patches if patch.get_width() > 0]
    middles = [(round(p.get_x() + p.get_width() / 2), round(p.get_y() + p.get_height() / 2)) for p in frames]
    assert middles == [(1, 0), (2, 1)]
    assert [patch.get_linestyle() for patch in frames] == ["solid", "--"]
    cells = {tuple(map(round, text.get_position())): text.get_text() for text in axes.texts}
    assert cells[1, 0] == "1" and cells[0, 1] == "diverged"
    assert not find_overlaps(figure)
