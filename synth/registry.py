"""Finding tasks: files under synth/tasks/, entry points of installed packages, or a file given by path.

There is no list to edit: a new file with one Task class in it is enough.
"""

import difflib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from multiprocessing import parent_process
from pathlib import Path
from types import ModuleType
from typing import Any

from synth.errors import UserError
from synth.identity import digest
from synth.task import Task, check_class

GROUP = "physics_of_lms.tasks"
_named: set[str] = set()  # files, by place and content, whose code was asked for in this process


def _defined_in(module: ModuleType) -> Iterator[type[Task]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Task) and value.__module__ == module.__name__:
            if not inspect.isabstract(value):
                yield value


@cache
def installed_tasks() -> dict[str, type[Task]]:
    """Every task by name: those under synth/tasks/ and those that installed packages announce."""
    import synth.tasks

    found: list[type[Task]] = []
    for info in pkgutil.iter_modules(synth.tasks.__path__):
        found.extend(_defined_in(importlib.import_module(f"synth.tasks.{info.name}")))
    found.extend(map(_announced, entry_points(group=GROUP)))
    tasks: dict[str, type[Task]] = {}
    for cls in found:
        check_class(cls)
        if cls.name in tasks and tasks[cls.name] is not cls:
            raise UserError(f"two tasks are named {cls.name!r} ({tasks[cls.name]!r} and {cls!r}); rename one")
        tasks[cls.name] = cls
    return tasks


def _announced(point: EntryPoint) -> type[Task]:
    """The task of an installed package."""
    package = point.dist.name if point.dist else point.value
    try:
        cls = point.load()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"task {point.name} of {package} does not import: {said}; mend or uninstall it") from error
    if not inspect.isclass(cls) or not issubclass(cls, Task):
        raise UserError(f"{point.value}, task {point.name} of {package}, is no Task; mend or uninstall it")
    return cls


def task_names() -> dict[str, tuple[type[Task], dict[str, Any]]]:
    """Every name a task can be asked for by: its own and its presets', with the field values they stand for."""
    names: dict[str, tuple[type[Task], dict[str, Any]]] = {}
    for name, cls in sorted(installed_tasks().items()):
        names[name] = (cls, {})
        for preset, values in cls.presets.items():
            names[preset] = (cls, dict(values))
    return names


def is_file(spec: str) -> bool:
    """Whether a task or a mixer is given as a file, path/to/file.py:Class."""
    return ".py" in spec


def file_of(spec: str) -> Path:
    """The file of one that is."""
    return Path(spec.partition(":")[0])


def _read(path: Path, kind: str) -> tuple[str, bytes]:
    """What stands for a file as it now is, and its content. Raises UserError for one that is not there."""
    try:
        if path.is_file():
            content = path.read_bytes()
            return digest([str(path.resolve()), content.hex()], 6), content
    except OSError:  # its name is too long, or it is not ours to read
        pass
    raise UserError(f"no file {path}; a {kind} of your own is given as path/to/file.py:Class")


def trust(path: str | Path) -> None:
    """Let the code of a file run, as it now is, also where only a saved model or the note beside it names the file.

    Raises UserError for a file that is not there.
    """
    _trust(Path(path), _read(Path(path), "task or a mixer")[0])


def _trust(path: Path, identity: str) -> None:
    """Remember the file; the process whose command line names it says so, workers and other ranks do not."""
    first = os.environ.get("RANK", "0") == "0" and parent_process() is None
    if identity not in _named and first and any(_names(argument, path) for argument in sys.argv[1:]):
        print(f"running the code of {path}", file=sys.stderr)
    _named.add(identity)


def _names(argument: str, path: Path) -> bool:
    """Whether an argument, or what it has after =, is a file of that name: FILE.py, FILE.py:Class or --flag=FILE.py."""
    return path.name in (file_of(argument).name, file_of(argument.partition("=")[2]).name)


def require_trust(path: Path, where: str | Path) -> None:
    """Raise UserError for code that only a file names (`where`), and neither the command line nor the caller: what is
    read from a disk is data, and must not choose what runs."""
    if _read(path, "task or a mixer")[0] not in _named:
        raise UserError(f"{where} names code, {path}, which runs only if you name it too: give --trust {path}, or call "
                        f"synth.registry.trust({str(path)!r}) before")  # fmt: skip


def load_file(path: Path, kind: str = "task") -> ModuleType:
    """The module that a file holds; the same one for as long as the file does not change.

    Who calls this has been given the path by the user: one that was read from a file goes through `require_trust`.
    kind: what a user keeps in such a file, for the messages. Raises UserError for one that is not there or fails.
    """
    identity, content = _read(path, kind)
    _trust(path, identity)
    name = f"_{kind}_{identity}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UserError(f"{path} is not a Python file; a {kind} of your own is given as path/to/file.py:Class")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up here
    try:
        # not spec.loader.exec_module, which runs a file of __pycache__ where it finds one: what was digested runs
        exec(compile(content, path, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module


def task_class(spec: str) -> tuple[type[Task], dict[str, Any]]:
    """The class and preset values that a name or ``path.py:Class`` stands for. Raises UserError with the nearest."""
    if is_file(spec):
        path, _, name = spec.partition(":")
        module = load_file(Path(path))
        classes = {cls.__name__: cls for cls in _defined_in(module)}
        if not name and len(classes) == 1:
            name = next(iter(classes))
        if name not in classes:
            raise UserError(f"{path} defines {', '.join(classes) or 'no task'}; name one as {path}:Class")
        check_class(classes[name])
        classes[name].origin = f"{Path(path).resolve()}:{name}"
        return classes[name], {}
    names = task_names()
    if spec not in names:
        near = difflib.get_close_matches(spec, names, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no task named {spec!r}; {hint}the tasks: {', '.join(names)}; or path/to/file.py:Class")
    return names[spec]


def get_task(spec: str, **values: Any) -> Task:
    """The task that a name, preset or ``path.py:Class`` stands for, with some fields set.

    Raises UserError on an unknown name or field.
    """
    cls, preset = task_class(spec)
    known = [f.name for f in fields(cls)]
    for name in values:
        if name not in known:
            raise UserError(f"task {cls.name} has no field {name!r}; its fields: {', '.join(known) or 'none'}")
    return cls(**{**preset, **values})
