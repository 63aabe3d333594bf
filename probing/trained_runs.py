"""Find a trained model on disk and the task it was trained on, by the id of a run or the path of its folder.

Two kinds of folders hold both: runs/<id>/ of the experiments (the task in run.json, by identity names; the model in
model/) and the output folder of `python -m lm train` (the task in model/task.json). Both files are data: only grammars,
biographies and questions about people are built from them, and nothing that they name is imported or executed.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from synth.atomic_io import read_at_most
from synth.errors import UserError
from synth.identity import fields_by_identity, identity_name
from synth.mixture import Mixture
from synth.task import TrainingData
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS
from synth.tasks.cfg import Cfg

PEOPLE_TASKS: dict[str, type[BioS]] = {identity_name(cls): cls for cls in (BioS, BioQuestions, BioManipulate)}
MAX_TASK_FILE_BYTES = 1_000_000
TaskT = TypeVar("TaskT", bound=TrainingData)


@dataclass(frozen=True)
class TrainedRun(Generic[TaskT]):
    """folder: of the run; task, data_seed: of the documents that the model was trained on."""

    folder: Path
    task: TaskT
    data_seed: int

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.folder / "model"


def find_grammar_run(run: str, runs: Path, grammar: str | None = None) -> TrainedRun[Cfg]:
    """Find a run trained on a grammar.

    run: id, unique prefix of an id under `runs`, or path of the run's folder. grammar: path of the grammar file, needed
    for a grammar that is not bundled (a run stores its digest, not its path). Raises UserError if there is no such run,
    it is unfinished or has no model, or it was not trained on a grammar or not on the one in the file.
    """
    folder = _find_run_with_model(run, runs)
    if (folder / "run.json").exists():
        task, seed = _parse_run_json(folder / "run.json", grammar)
    else:
        task, seed = _parse_task_file(folder / "model" / "task.json", grammar)
    return TrainedRun(folder, task, seed)


def find_people_run(run: str, runs: Path) -> TrainedRun[TrainingData]:
    """Find a run (see `find_grammar_run`) pretrained on biographies, questions about them or a mixture of both; later
    stages of its training are ignored. Raises UserError as `find_grammar_run` does, and for a run on other tasks."""
    folder = _find_run_with_model(run, runs)
    if not (folder / "run.json").exists():
        raise UserError(f"{folder} does not say who its people are; give a run of an experiment")
    record, seed = _read_task_record(folder / "run.json")
    try:
        return TrainedRun(folder, _parse_people_task(folder, record), seed)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        problem = "is in fields that this version does not know; use the version that wrote it"
        raise UserError(f"{folder / 'run.json'} {problem}") from error


def _parse_people_task(folder: Path, record: dict[str, Any]) -> TrainingData:
    """Build the recorded task. Raises KeyError or TypeError for unknown fields, UserError for a task not on people."""
    if record["class"] != identity_name(Mixture):
        return _parse_single_task(folder, record)
    settings = fields_by_identity(Mixture, {name: value for name, value in record.items() if name != "class"})
    return Mixture(**settings | {"parts": tuple(_parse_single_task(folder, part) for part in settings["parts"])})


def _parse_single_task(folder: Path, record: dict[str, Any]) -> BioS:
    settings = dict(record)
    kind, version = settings.pop("class"), settings.pop("version", None)
    if kind not in PEOPLE_TASKS:
        raise UserError(f"{folder} was trained on {kind}, which is not about people; choose a run on bioS")
    if version not in (None, PEOPLE_TASKS[kind].version):
        raise UserError(f"{folder} is of version {version} of {kind}; run its experiment again")
    return PEOPLE_TASKS[kind](**fields_by_identity(PEOPLE_TASKS[kind], settings))


def _find_run_with_model(run: str, runs: Path) -> Path:
    folder = _find_folder(run, runs)
    if not (folder / "model").is_dir():
        raise UserError(f"{folder} has no model; choose a finished run that trained one")
    for part in ("model", "run.json", "probes"):  # they are read or written: a link could lead out of the folder
        _check_inside(folder / part, folder)
    return folder


def _check_inside(path: Path, folder: Path) -> None:
    """Raise UserError if the path is a link that leads out of the folder."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{path} is a link out of {folder}; give the folder that it leads to, if you trust it")


def _find_folder(run: str, runs: Path) -> Path:
    folders = sorted(path.name for path in runs.iterdir() if path.is_dir()) if runs.is_dir() else []
    folders = [name for name in folders if not name.startswith(".")]
    matches = [name for name in folders if name == run] or [name for name in folders if run and name.startswith(run)]
    if len(matches) == 1 and (matches[0] == run or not matches[0].endswith(".partial")):
        _check_inside(runs / matches[0], runs)
        return runs / matches[0]
    if not matches and _is_folder(run):
        return Path(run)
    if len(matches) == 1:
        raise UserError(f"the run {matches[0]} is not finished; run its experiment again, which goes on with it")
    if matches:
        names = _abbreviate_list(matches)
        raise UserError(f"{len(matches)} runs in {runs} begin with {run}: {names}; give more of the id")
    raise UserError(f"no run {run!r} in {runs}; there are: {_abbreviate_list(folders)}")


def _is_folder(path: str) -> bool:
    try:
        return bool(path) and Path(path).is_dir()
    except OSError:  # longer than a name can be
        return False


def _abbreviate_list(names: list[str]) -> str:
    return " ".join(names[:6]) + (f" ... {len(names)} in all" if len(names) > 6 else "") if names else "none"


def _read_task_record(path: Path) -> tuple[dict[str, Any], int]:
    """The task's fields by identity name, "class" included, and the data seed."""
    try:
        run = json.loads(path.read_text("utf-8").partition("\n")[2])["run"]  # the first line is a checksum
        fields, seed = dict(run["task"]), int(run["seeds"]["data"])
        fields["class"]
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path} is cut or altered; delete the folder and run the experiment again") from error
    return fields, seed


def _parse_run_json(path: Path, grammar: str | None) -> tuple[Cfg, int]:
    fields, seed = _read_task_record(path)
    kind = fields.pop("class")
    if kind != identity_name(Cfg):
        shown = "only runs on a plain grammar (Cfg) are shown, choose one of those"
        raise UserError(f"{path.parent} was trained on {kind}; {shown}")
    return _build_cfg(path.parent, *_read_cfg_fields(fields, path), grammar), seed


def _read_cfg_fields(fields: dict[str, Any], path: Path) -> tuple[str, str | None]:
    name, root = fields.get("grammar"), fields.get("root")
    if fields.keys() - {"grammar", "root"} or not isinstance(name, str) or not isinstance(root, str | None):
        raise UserError(f"{path} describes a grammar in a way this version cannot read; use the version that wrote it")
    return name, root


def _parse_task_file(path: Path, grammar: str | None) -> tuple[Cfg, int]:
    try:
        record = json.loads(read_at_most(path, MAX_TASK_FILE_BYTES))
        name, fields, seed = str(record["task"]), dict(record["fields"]), int(record["data_seed"])
        key = str(record["key"])
    except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
        needed = "give a run of an experiment or of `python -m lm train`"
        raise UserError(f"{path} does not name a task; {needed}") from error
    known: dict[str, dict[str, Any]] = {"cfg": {}, **Cfg.presets}
    folder = path.parent.parent
    if name not in known:
        raise UserError(f"{folder} was trained on {name}, which is no grammar known by name; choose another")
    settings = {"grammar": Cfg(**known[name]).grammar, "root": None} | fields
    return _build_cfg(folder, *_read_cfg_fields(settings, path), grammar, key), seed


def _build_cfg(folder: Path, name: str, root: str | None, grammar: str | None, key: str = "") -> Cfg:
    """name: a bundled grammar, or what a run recorded of a grammar file: its digest, or its path if the task's `key` is
    given."""
    known = Cfg(grammar, root) if grammar else Cfg(name, root)
    if not grammar and name not in {preset["grammar"] for preset in Cfg.presets.values()}:
        raise UserError(f"{folder} was trained on a grammar from a file; give the file with --grammar FILE")
    if grammar and (known.key != key if key else known.contents().get("grammar", known.grammar) != name):
        raise UserError(f"{folder} was not trained on the grammar {grammar}; give the file that it was trained on")
    return known
