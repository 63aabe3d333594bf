"""`python -m experiments power`, and the table and figure of docs/statistics.md."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from experiments.harness.statistics.power import EFFECTS, Power, power_lines, seeds_needed
from experiments.harness.statistics.sequential import AUTO, fixed
from experiments.harness.statistics.simulation import NormalMean, simulate_verdicts
from synth import UserError

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("draw_statistics", DOCS / "draw_statistics.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fewest_seeds_are_those_whose_simulation_has_the_power():
    for effect in (1.0, 2.0, 3.0):
        n = seeds_needed(effect)
        assert simulate_verdicts(fixed(n), NormalMean(effect)).reproduced > 0.79
        assert simulate_verdicts(fixed(n - 1), NormalMean(effect)).reproduced < 0.81
    assert seeds_needed(0.0) is None and seeds_needed(0.01) is None and seeds_needed(50.0) == 2


def test_the_table_has_a_line_per_effect_and_a_column_per_look(capsys):
    Power().run(Path())
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:9] == ["effect", "by", "3", "by", "5", "by", "8", "by", "12"]
    assert len(lines) == 2 + 8 and len({len(line) for line in lines[1:]}) == 1
    found = simulate_verdicts(AUTO, NormalMean(1.5))
    row = next(line.split() for line in lines if line.split()[0] == "1.5")
    assert row[1:5] == [f"{share:.0%}" for share in found.reproduced_by.values()]
    assert row[5] == f"{found.seeds:.1f}"


def test_an_effect_is_given_in_either_unit(capsys):
    assert Power(effect=1.5).effects() == (1.5,)
    assert Power(difference=0.3, spread=0.2).effects() == pytest.approx((1.5,))
    Power(effect=2.0, looks="4").run(Path())
    assert "by 4" in capsys.readouterr().out
    assert len(list(power_lines(AUTO, (1.0,)))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"difference": 0.1}, "belong together"),
        ({"spread": 0.1}, "belong together"),
        ({"effect": 1.0, "difference": 0.1, "spread": 0.1}, "give it or them"),
        ({"effect": -1.0}, "--effect -1 is not a number above 0"),
        ({"effect": float("nan")}, "--effect nan"),
        ({"difference": 0.1, "spread": 0.0}, "--spread 0"),
        ({"looks": "3,x"}, "increasing numbers of seeds"),
    ],
)
def test_bad_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        Power(**options).run(Path())


def test_the_page_has_the_measured_table(page):
    text = (DOCS / "statistics.md").read_text()
    assert "\n".join(page.table_lines()) in text, "run python docs/draw_statistics.py and put its table into the page"


def test_the_page_has_the_printed_power_table():
    text = (DOCS / "statistics.md").read_text()
    assert "\n".join(power_lines(AUTO, EFFECTS)) in text
    assert " | ".join(f"{AUTO.error_at(n):.2%}" for n in AUTO.looks) in text


def test_the_figure_shows_the_curves_of_the_table(page):
    left, right = page.draw().axes
    curve = left.lines[len(AUTO.looks) - 1].get_ydata()
    assert curve[0] == pytest.approx(0.05, abs=0.01) and curve[-1] == 1
    assert all((np.diff(line.get_ydata()) >= -0.005).all() for line in left.lines)
    assert right.lines[0].get_ydata()[0] > 11 and right.lines[0].get_ydata()[-1] < 3.2
    assert (DOCS / "statistics.png").stat().st_size < 300_000 and (DOCS / "statistics.svg").is_file()
