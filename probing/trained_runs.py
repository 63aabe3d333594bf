"""A trained model on disk and the task that it was trained on, found by the id of a run or the path of its folder.

Two kinds of folders hold both: runs/<id>/ of the experiments (run.json names the task, model/ holds the model) and the
folder of `python -m lm train` (model/task.txt names it). What they say is data: only a grammar, or biographies and
questions about them, are made of it, and nothing that they name is imported or run.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from synth.errors import UserError
from synth.mixture import Mixture
from synth.task import Task
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS
from synth.tasks.cfg import Cfg

ABOUT_PEOPLE: dict[str, type[BioS]] = {cls.__name__: cls for cls in (BioS, BioQuestions, BioManipulate)}
Kind = TypeVar("Kind", bound=Task)


@dataclass(frozen=True)
class Finished(Generic[Kind]):
    """folder: of the run; task: what it was trained on; data_seed: of the documents that it was trained on."""

    folder: Path
    task: Kind
    data_seed: int

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.folder / "model"


def find(run: str, runs: Path, grammar: str | None = None) -> Finished[Cfg]:
    """The run with that id or the only one whose id begins so, under `runs`; or a path to its folder.

    grammar: the file of a grammar of one's own: a run knows it by its content, not by its place. Raises UserError on a
    run that is not there, not finished, without a model, not on a grammar, or on another grammar than the file's.
    """
    folder = _with_model(run, runs)
    if (folder / "run.json").exists():
        task, seed = _of_record(folder / "run.json", grammar)
    else:
        task, seed = _of_note(folder / "model" / "task.txt", grammar)
    return Finished(folder, task, seed)


def find_people(run: str, runs: Path) -> Finished[Task]:
    """The run, given as for `find`, with its biographies, questions about them or mixture of both; what it was trained
    on afterwards is not of account. Raises UserError as `find` does, and on a run about no people."""
    folder = _with_model(run, runs)
    if not (folder / "run.json").exists():
        raise UserError(f"{folder} does not say who its people are; give a run of an experiment")
    record, seed = _record(folder / "run.json")
    try:
        return Finished(folder, _about_people(folder, record), seed)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise UserError(
            f"{folder / 'run.json'} tells of people in fields that this version does not know; use the version of then"
        ) from error


def _about_people(folder: Path, record: dict[str, Any]) -> Task:
    """The task of a record. Raises KeyError or TypeError on unknown fields, UserError where it is no such task."""
    settings = dict(record)
    kind, version = settings.pop("class"), settings.pop("version", None)
    if kind == Mixture.__name__:
        return Mixture(tuple(_about_people(folder, part) for part in settings["parts"]), tuple(settings["shares"]))
    if kind not in ABOUT_PEOPLE:
        raise UserError(f"{folder} was trained on {kind}, which is not about people; choose a run on bioS")
    if version not in (None, ABOUT_PEOPLE[kind].version):
        raise UserError(f"{folder} is of version {version} of {kind}; run its experiment again")
    return ABOUT_PEOPLE[kind](**settings)


def _with_model(run: str, runs: Path) -> Path:
    folder = _folder(run, runs)
    if not (folder / "model").is_dir():
        raise UserError(f"{folder} has no model; choose a finished run that trained one")
    for part in ("model", "run.json", "probes"):  # what is read or written there: links would lead elsewhere
        _check_inside(folder / part, folder)
    return folder


def _check_inside(path: Path, folder: Path) -> None:
    """Raise UserError for a link that leads out of a folder."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{path} is a link out of {folder}; give the folder that it leads to, if you trust it")


def _folder(run: str, runs: Path) -> Path:
    there = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    there = [name for name in there if not name.startswith(".")]
    begun = [name for name in there if name == run] or [name for name in there if run and name.startswith(run)]
    if len(begun) == 1 and (begun[0] == run or not begun[0].endswith(".partial")):
        _check_inside(runs / begun[0], runs)
        return runs / begun[0]
    if not begun and _is_folder(run):
        return Path(run)
    if len(begun) == 1:
        raise UserError(f"the run {begun[0]} is not finished; run its experiment again, which goes on with it")
    if begun:
        raise UserError(f"{len(begun)} runs in {runs} begin with {run}: {_some(begun)}; give more of the id")
    raise UserError(f"no run {run!r} in {runs}; there are: {_some(there)}")


def _is_folder(path: str) -> bool:
    try:
        return bool(path) and Path(path).is_dir()
    except OSError:  # longer than a name can be
        return False


def _some(names: list[str]) -> str:
    return " ".join(names[:6]) + (f" ... {len(names)} in all" if len(names) > 6 else "") if names else "none"


def _record(path: Path) -> tuple[dict[str, Any], int]:
    """The fields of the task, "class" among them, and the data seed."""
    try:
        run = json.loads(path.read_text("utf-8").partition("\n")[2])["run"]  # the first line is a checksum
        fields, seed = dict(run["task"]), int(run["seeds"]["data"])
        fields["class"]
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path} is cut or altered; delete the folder and run the experiment again") from error
    return fields, seed


def _of_record(path: Path, grammar: str | None) -> tuple[Cfg, int]:
    fields, seed = _record(path)
    kind, name, root = fields.pop("class"), fields.pop("grammar", None), fields.pop("root", None)
    if kind != "Cfg":
        raise UserError(
            f"{path.parent} was trained on {kind}; only runs on a plain grammar (Cfg) are shown, choose one of those"
        )
    if fields or not isinstance(name, str) or not isinstance(root, str | None):
        raise UserError(
            f"{path} tells of a grammar that this version does not know; use the version of the suite of then"
        )
    return _task(path.parent, name, root, grammar), seed


def _of_note(path: Path, grammar: str | None) -> tuple[Cfg, int]:
    try:
        name, *seed = path.read_text("utf-8").splitlines()
        number = int(seed[0]) if seed else 0
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} does not name a task; give a run of an experiment or of `python -m lm train`"
        ) from error
    known: dict[str, dict[str, Any]] = {"cfg": {}, **Cfg.presets}
    if name not in known:
        raise UserError(
            f"{path.parent.parent} was trained on {name}, which is no grammar known by name; choose another"
        )
    return _task(path.parent.parent, Cfg(**known[name]).grammar, None, grammar), number


def _task(folder: Path, name: str, root: str | None, grammar: str | None) -> Cfg:
    """name: of a grammar of ours, or the digest of somebody's own."""
    known = Cfg(grammar, root) if grammar else Cfg(name, root)
    if not grammar and name not in {preset["grammar"] for preset in Cfg.presets.values()}:
        raise UserError(f"{folder} was trained on a grammar from a file; give the file with --grammar FILE")
    if grammar and known.contents().get("grammar", known.grammar) != name:
        raise UserError(f"{folder} was not trained on the grammar {grammar}; give the file that it was trained on")
    return known
