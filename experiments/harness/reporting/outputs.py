"""Figure and claims of an experiment, from its table."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.experiment import TABLE_NAME, Experiment, as_user_error
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim
from experiments.harness.reporting.diverged import draw_measured, judge_measured
from experiments.harness.reporting.looks import claims_over_looks
from experiments.harness.reporting.table import read_grid, read_table

GRID_TABLE_NAME = "grid.csv"

if TYPE_CHECKING:
    from pandas import DataFrame


def draw_figure(experiment: Experiment, source: Path, folder: Path, note: str = "") -> list[Path]:
    """Draw the experiment's figure of the table `source`; return its files. note: a line below the figure.

    Raises UserError, which names the table, if it is damaged or the experiment fails to draw it.
    """
    table, module = read_table(source), experiment.load_module()
    with figures.style(), as_user_error(experiment.path, f"{experiment.path.name} cannot draw {source}"):
        return figures.save(draw_measured(module, table), folder, note)


def claims_from_table(experiment: Experiment, scale: str, results: Path) -> list[Claim]:
    """The experiment's claims about its table of one scale. Raises UserError as `draw_figure`."""
    return make_claims(experiment, results / experiment.name / scale / TABLE_NAME, scale)


def make_claims(experiment: Experiment, source: Path, scale: str) -> list[Claim]:
    """The experiment's claims about the table `source` of a scale. Raises UserError as `draw_figure`."""
    table, module = read_table(source), experiment.load_module()
    with as_user_error(experiment.path, f"{experiment.path.name} cannot make claims of {source}"):
        claims = claims_over_looks(table, partial(judge_measured, module))
    edge = _grid_edges(table)
    claims = [replace(claim, exp=experiment.number, scale=scale) for claim in claims]
    return [replace(claim, note=_joined(claim.note, edge)) if claim.primary else claim for claim in claims]


def draw_grid(source: Path, folder: Path) -> list[Path]:
    """Draw the grid whose table is in the folder `source`: grid.png and grid.svg in `folder`; return them."""
    table = read_grid(source / GRID_TABLE_NAME)
    with figures.style():
        return figures.save(figures.draw_grid(table), folder, name="grid")


def _grid_edges(table: "DataFrame") -> str:
    """Says that the best value of a grid lies on its edge, so that a better one may lie beyond; "" if none does."""
    axes = (
        sorted({axis for text in table["grid_edge"].dropna() for axis in text.split()}) if "grid_edge" in table else []
    )
    return f"the best {' and '.join(axes)} of an arm lies on the edge of its grid" if axes else ""


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def committed_claims(experiment: Experiment, results: Path) -> list[Claim]:
    """The claims of all scales that have a table but smoke, which only shows that the code works."""
    scales = [scale for scale in experiment.scales_with_tables(results) if scale != "smoke"]
    return [claim for scale in scales for claim in claims_from_table(experiment, scale, results)]
