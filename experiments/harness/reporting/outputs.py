"""Figure and claims of an experiment, from its table."""

from dataclasses import replace
from pathlib import Path

from experiments.harness.experiment import TABLE_NAME, Experiment, as_user_error
from experiments.harness.reporting import figures
from experiments.harness.reporting.claims import Claim
from experiments.harness.reporting.table import read_table


def draw_figure(experiment: Experiment, source: Path, folder: Path, note: str = "") -> list[Path]:
    """Draw the experiment's figure of the table `source`; return its files. note: a line below the figure.

    Raises UserError, which names the table, if it is damaged or the experiment fails to draw it.
    """
    table, module = read_table(source), experiment.load_module()
    with figures.style(), as_user_error(experiment.path, f"{experiment.path.name} cannot draw {source}"):
        return figures.save(module.figure(table), folder, note)


def claims_from_table(experiment: Experiment, scale: str, results: Path) -> list[Claim]:
    """The experiment's claims about its table of one scale. Raises UserError as `draw_figure`."""
    source = results / experiment.name / scale / TABLE_NAME
    table, module = read_table(source), experiment.load_module()
    with as_user_error(experiment.path, f"{experiment.path.name} cannot make claims of {source}"):
        return [replace(claim, exp=experiment.number, scale=scale) for claim in module.claims(table)]


def committed_claims(experiment: Experiment, results: Path) -> list[Claim]:
    """The claims of all scales that have a table but smoke, which only shows that the code works."""
    scales = [scale for scale in experiment.scales_with_tables(results) if scale != "smoke"]
    return [claim for scale in scales for claim in claims_from_table(experiment, scale, results)]
