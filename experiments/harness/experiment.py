"""Experiments as files: find them by name, load them and list their runs.

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
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from experiments.harness.run import SCALES, Run, seed_major_order, with_seeds
from synth.errors import UserError

EXPERIMENTS_DIR = Path(__file__).resolve().parents[1]
FUNCTIONS = {"runs": "runs(scale)", "figure": "figure(table)", "claims": "claims(table)"}
TABLE_NAME = "table.csv"


@dataclass(frozen=True)
class Experiment:
    """An experiment in a file; its module is loaded on first use."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its ending, e.g. 01_cfg_generation."""
        return self.path.stem

    @property
    def number(self) -> str:
        """First two characters of the name: digits for an experiment of the suite."""
        return self.name[:2]

    @property
    def numbered(self) -> bool:
        """Whether it belongs to the suite; only such claims enter the ledger."""
        return self.number.isdigit()

    @property
    def title(self) -> str:
        """First line of its docstring, read without importing it; the error if the file does not parse."""
        try:
            doc = ast.get_docstring(ast.parse(self.path.read_bytes(), self.path.name)) or "(no docstring)"
        except (SyntaxError, ValueError) as error:
            return f"(does not import: {type(error).__name__}: {error})"
        return doc.splitlines()[0]

    def mentions(self, claim: str) -> bool:
        """Whether its text has the id of a claim in quotes."""
        return f'"{claim}"' in self.path.read_text(encoding="utf-8")

    def load_module(self) -> ModuleType:
        """Import the file. Raises UserError if the import fails or one of the three functions is missing."""
        module = _load(f"experiments.{self.name}", self.path)
        for function, signature in FUNCTIONS.items():
            if not callable(getattr(module, function, None)):
                raise UserError(f"{self.path} has no function {signature}; docs/add_an_experiment.md shows one")
        return module

    def runs(self, scale: str, seeds: int | None = None) -> list[Run]:
        """Its runs at a scale, seed 0 of every configuration first; empty if it has none at this scale.

        seeds: seeds per configuration, None for the experiment's own number. Raises UserError for an unknown scale, and
        if runs(scale) fails.
        """
        if scale not in SCALES:
            raise UserError(f"unknown scale {scale!r}; choose one of {', '.join(SCALES)}")
        module = self.load_module()
        with as_user_error(self.path, f"{self.path}: runs({scale!r}) fails"):
            runs = module.runs(scale)
        if seeds is not None:
            runs = with_seeds(runs, seeds)
        if others := {run.experiment for run in runs} - {self.name}:
            raise UserError(f"{self.path}: runs say experiment={others.pop()!r}; it must be {self.name!r}")
        return seed_major_order(runs)

    def scales_with_tables(self, results: Path) -> list[str]:
        """The scales that have a table under `results`."""
        return [scale for scale in SCALES if (results / self.name / scale / TABLE_NAME).is_file()]


def _load(name: str, path: Path) -> ModuleType:
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    try:
        with as_user_error(path, f"{path} does not import"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def as_user_error(path: Path, what: str) -> Iterator[None]:
    """Turn any error but OSError in the block into a UserError: `what` failed, the error, and its line in `path`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    except OSError:
        raise  # disks and folders: the command line explains them
    except Exception as error:
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f" (line {lines[-1]})" if lines else ""
        message = " ".join(str(error).split())
        raise UserError(f"{what}: {type(error).__name__}: {message}{place}") from error


def discover(folder: Path = EXPERIMENTS_DIR) -> list[Experiment]:
    """The experiments in a folder (files NN_name.py), sorted by number."""
    return [Experiment(path) for path in sorted(folder.glob("*.py")) if re.fullmatch(r"\d\d_\w+", path.stem)]


def select(names: Sequence[str], folder: Path = EXPERIMENTS_DIR) -> list[Experiment]:
    """The experiments with these numbers or names; all if `names` is empty. Raises UserError for an unknown name."""
    experiments = discover(folder)
    known = {key: experiment for experiment in experiments for key in (experiment.number, experiment.name)}
    chosen = []
    for name in names:
        key = name.zfill(2) if name.isdigit() else Path(name).stem
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            names_there = ", ".join(experiment.name for experiment in experiments) or "none"
            raise UserError(f"no experiment {name!r}; {hint}there are: {names_there}")
        chosen.append(known[key])
    return chosen or experiments
