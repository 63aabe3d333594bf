"""Experiments as files: find them by name, load them, plan their runs, and draw what their tables hold.

An experiment is experiments/NN_name.py with a docstring and three functions, runs(scale), figure(table) and
claims(table); there is no list of experiments to edit.
"""

import ast
import difflib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from experiments.harness.reporting.claims import Claim
from experiments.harness.reporting.table import read_table
from experiments.harness.run import SCALES, Run, in_order, replicate
from synth.errors import UserError

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
    def numbered(self) -> bool:
        """Whether it is one of the suite's, whose claims enter the ledger."""
        return self.number.isdigit()

    @property
    def title(self) -> str:
        """The first line of its docstring, read without importing it; what is wrong with a file that does not parse."""
        try:
            doc = ast.get_docstring(ast.parse(self.path.read_bytes(), self.path.name)) or "(no docstring)"
        except (SyntaxError, ValueError) as error:
            return f"(does not import: {type(error).__name__}: {error})"
        return doc.splitlines()[0]

    def module(self) -> ModuleType:
        """Its module. Raises UserError when it does not import or one of the three functions is missing."""
        module = _load(f"experiments.{self.name}", self.path)
        for function, signature in FUNCTIONS.items():
            if not callable(getattr(module, function, None)):
                raise UserError(f"{self.path} has no function {signature}; docs/add_an_experiment.md shows one")
        return module

    def runs(self, scale: str, seeds: int | None = None) -> list[Run]:
        """Its runs at a scale, seed 0 of every configuration first; empty where it has none.

        seeds: the number of seeds of every configuration instead of the scale's own. Raises UserError when the
        experiment's own function fails.
        """
        if scale not in SCALES:
            raise UserError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}")
        module = self.module()
        with _blaming(self.path, f"{self.path}: runs({scale!r}) fails"):
            runs = module.runs(scale)
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
        with _blaming(path, f"{path} does not import"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _blaming(path: Path, what: str) -> Iterator[None]:
    """Turn an error of the experiment's own code into a UserError: what failed, the line of its file, the error."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except OSError:
        raise  # disks and folders: the command line explains them
    except Exception as error:
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f" (line {lines[-1]})" if lines else ""
        said = " ".join(str(error).split())
        raise UserError(f"{what}: {type(error).__name__}: {said}{place}") from error


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


def draw(experiment: Experiment, source: Path, folder: Path, note: str = "") -> list[Path]:
    """Draw the experiment's figure of the table `source` into a folder; note: a line under it.

    Raises UserError that names the table when it is damaged or the experiment cannot draw it.
    """
    from experiments.harness.reporting import figures

    table, module = read_table(source), experiment.module()
    with figures.style(), _blaming(experiment.path, f"{experiment.path.name} cannot draw {source}"):
        return figures.save(module.figure(table), folder, note)


def claims_of(experiment: Experiment, scale: str, results: Path) -> list[Claim]:
    """The claims that the table of one scale supports. Raises UserError that names the table, as `draw`."""
    source = results / experiment.name / scale / TABLE
    table, module = read_table(source), experiment.module()
    with _blaming(experiment.path, f"{experiment.path.name} cannot make claims of {source}"):
        return [replace(claim, exp=experiment.number, scale=scale) for claim in module.claims(table)]


def committed_claims(experiment: Experiment, results: Path) -> list[Claim]:
    """The claims of every scale that has a table, but for smoke, which shows that the code works and nothing else."""
    scales = [scale for scale in experiment.scales_with_tables(results) if scale != "smoke"]
    return [claim for scale in scales for claim in claims_of(experiment, scale, results)]
