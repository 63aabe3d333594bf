"""Nominal levels of designs with several looks: against simulation, published normal boundaries, and by hand."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri, stdtrit

from experiments.harness.statistics.sequential import (
    AUTO,
    Design,
    design_from_text,
    design_of,
    fixed,
    nominal_errors,
    spent_error,
)
from synth import UserError

PATHS = 400_000


@pytest.mark.parametrize("looks", [(3, 5, 8, 12), (3, 6), (2, 3), (3, 4, 5, 6)])
def test_by_every_look_as_much_error_is_spent_as_was_planned(looks):
    values = np.random.default_rng(7).standard_normal((looks[-1], PATHS))
    crossed = np.zeros(PATHS, bool)
    for n, error in zip(looks, nominal_errors(looks, 0.05), strict=True):
        t = np.sqrt(n) * values[:n].mean(axis=0) / values[:n].std(axis=0, ddof=1)
        crossed |= t > stdtrit(n - 1, 1 - error)
        planned = spent_error(n / looks[-1], 0.05)
        assert crossed.mean() == pytest.approx(planned, abs=3 * np.sqrt(planned / PATHS))
    assert crossed.mean() == pytest.approx(0.05, rel=0.03)


def test_with_many_seeds_the_boundaries_are_the_published_normal_ones():
    """Lan-DeMets spending of Pocock type at one-sided 2.5%, as tables and libraries for the normal case print it."""
    assert -ndtri(nominal_errors((500, 1000), 0.025)) == pytest.approx([2.157, 2.201], abs=2e-3)
    five = nominal_errors((200, 400, 600, 800, 1000), 0.025)
    assert -ndtri(five) == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=3e-3)


def test_three_seeds_are_not_many():
    """The levels of the normal theory, (3, 5, 8, 12) as fractions of many seeds, would spend another error."""
    normal = nominal_errors((240, 400, 640, 960), 0.05)
    exact = nominal_errors((3, 5, 8, 12), 0.05)
    assert normal[0] == pytest.approx(exact[0], rel=1e-3)  # the first look is no matter of dependence
    assert abs(normal[1] / exact[1] - 1) > 0.05


def test_levels_follow_from_the_errors():
    errors = nominal_errors(AUTO.looks, 0.05)
    assert [AUTO.error_at(n) for n in AUTO.looks] == list(errors)
    assert AUTO.level(3) == pytest.approx(1 - 2 * spent_error(0.25, 0.05), abs=1e-4)
    assert all(0 < error < 0.05 for error in errors) and sum(errors) > 0.05


def test_between_looks_the_smaller_error_counts():
    errors = dict(zip(AUTO.looks, nominal_errors(AUTO.looks, 0.05), strict=True))
    assert AUTO.error_at(4) == min(errors[3], errors[5]) and AUTO.error_at(11) == min(errors[8], errors[12])
    assert AUTO.error_at(2) == errors[3] and AUTO.error_at(20) == errors[12]


def test_one_look_is_the_fixed_sample():
    for n in (2, 3, 7, 100):
        assert fixed(3).level(n) == pytest.approx(0.9, abs=1e-9)
    assert fixed(5, error=0.01).level(5) == pytest.approx(0.98, abs=1e-9)


def test_looks_that_a_table_has_had():
    assert AUTO.looks_taken(12) == AUTO.looks
    assert AUTO.looks_taken(9) == (3, 5, 8) and AUTO.looks_taken(3) == (3,) and AUTO.looks_taken(2) == (2,)


def test_a_design_is_written_and_read():
    assert design_from_text(AUTO.text) == AUTO and design_from_text(" 3, 6 ") == Design((3, 6))


@pytest.mark.parametrize("text", ["", "3,3", "5,3", "1,2", "3,x", "3.5", "3,2000", "-3"])
def test_bad_looks_are_one_line(text):
    with pytest.raises(UserError, match="give increasing numbers of seeds"):
        design_from_text(text)


@pytest.mark.parametrize("error", [0, 0.5, -1, float("nan")])
def test_bad_errors_are_one_line(error):
    with pytest.raises(UserError, match="between 0 and 0.5"):
        Design((3,), error)


def test_a_table_names_its_design():
    assert design_of(pd.DataFrame({"seed_init": [0, 1]})).level(2) == pytest.approx(0.9)
    assert design_of(pd.DataFrame({"looks": [np.nan]})).level(2) == pytest.approx(0.9)
    assert design_of(pd.DataFrame({"looks": [AUTO.text, AUTO.text, np.nan]})) == AUTO
    with pytest.raises(UserError, match="several designs"):
        design_of(pd.DataFrame({"looks": ["3,5", "3,6"]}))


def test_levels_cost_little():
    nominal_errors.cache_clear()
    start = time.process_time()
    nominal_errors((3, 5, 8, 12, 20, 40), 0.05)
    assert time.process_time() - start < 2  # about 0.2 s
    code = "import experiments.harness.statistics.sequential, sys; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
