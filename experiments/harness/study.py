"""Experiments as files: find them by name, load them, plan their runs, and draw what their tables hold.

An experiment is experiments/NN_name.py with a docstring and three functions, runs(scale), figure(table) and
claims(table); there is no list of experiments to edit.
"""

import ast
import difflib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from experiments.harness.claims import Claim
from experiments.harness.runs import SCALES, Run, in_order, replicate
from experiments.harness.table import read_table
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

FOLDER = Path(__file__).resolve().parents[1]
FUNCTIONS = {"runs": "runs(scale)", "figure": "figure(table)", "claims": "claims(table)"}
TABLE = "table.csv"


@dataclass(frozen=True)
class Experiment:
    """An experiment's file; its module is loaded when it is asked for."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without ending, e.g. 01_cfg_generation."""
        return self.path.stem

    @property
    def number(self) -> str:
        """Its two digits."""
        return self.name[:2]

    @property
    def title(self) -> str:
        """The first line of its docstring, read without importing it."""
        doc = ast.get_docstring(ast.parse(self.path.read_text(encoding="utf-8"))) or "(no docstring)"
        return doc.splitlines()[0]

    def module(self) -> ModuleType:
        """Its module. Raises UserError when one of the three functions is missing."""
        module = _load(f"experiments.{self.name}", self.path)
        for function, signature in FUNCTIONS.items():
            if not callable(getattr(module, function, None)):
                raise UserError(f"{self.path} has no function {signature}; docs/add_an_experiment.md shows one")
        return module

    def runs(self, scale: str, seeds: int | None = None) -> list[Run]:
        """Its runs at a scale, seed 0 of every configuration first; empty where it has none.

        seeds: the number of seeds of every configuration instead of the scale's own.
        """
        if scale not in SCALES:
            raise UserError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}")
        runs = self.module().runs(scale)
        if seeds is not None:
            runs = replicate(runs, seeds)
        strangers = {run.experiment for run in runs} - {self.name}
        if strangers:
            raise UserError(f"{self.path}: runs say experiment={strangers.pop()!r}; it must be {self.name!r}")
        return in_order(runs)

    def scales_with_tables(self, results: Path) -> list[str]:
        """The scales whose table lies under `results`."""
        return [scale for scale in SCALES if (results / self.name / scale / TABLE).is_file()]


def _load(name: str, path: Path) -> ModuleType:
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def discover(folder: Path = FOLDER) -> list[Experiment]:
    """Every experiment in a folder, by number."""
    return [Experiment(path) for path in sorted(folder.glob("*.py")) if re.fullmatch(r"\d\d_\w+", path.stem)]


def select(names: Sequence[str], folder: Path = FOLDER) -> list[Experiment]:
    """The experiments called by number or name, all without any. Raises UserError with the nearest name."""
    found = discover(folder)
    known = {key: experiment for experiment in found for key in (experiment.number, experiment.name)}
    chosen = []
    for name in names:
        key = name.zfill(2) if name.isdigit() else Path(name).stem
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            there = ", ".join(experiment.name for experiment in found) or "none"
            raise UserError(f"no experiment {name!r}; {hint}there are: {there}")
        chosen.append(known[key])
    return chosen or found


def draw(experiment: Experiment, table: "DataFrame", folder: Path, note: str = "") -> list[Path]:
    """Draw the experiment's figure of a table into a folder; note: a line under it."""
    from experiments.harness import figures

    with figures.style():
        figure = experiment.module().figure(table)
        return figures.save(figure, folder, note)


def committed_claims(experiment: Experiment, results: Path) -> list[Claim]:
    """The claims of every scale that has a table."""
    from dataclasses import replace

    found = []
    for scale in experiment.scales_with_tables(results):
        table = read_table(results / experiment.name / scale / TABLE)
        for claim in experiment.module().claims(table):
            claim = replace(claim, exp=experiment.number, scale=scale)
            # a smoke run shows that the code works and nothing else
            found.append(replace(claim, verdict="not testable here") if scale == "smoke" else claim)
    return found
