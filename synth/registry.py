"""Finding tasks: in files under synth/tasks/, entry points of installed packages, or a file given by path."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from synth.errors import UserError
from synth.task import Task, check_class
from synth.user_code import is_file_spec, load_file

ENTRY_POINT_GROUP = "physics_of_lms.tasks"


def _defined_in(module: ModuleType) -> Iterator[type[Task]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Task) and value.__module__ == module.__name__:
            if not inspect.isabstract(value):
                yield value


@cache
def installed_tasks() -> dict[str, type[Task]]:
    """Task classes by name, from synth/tasks/ and entry points. Raises UserError for one that is no valid task."""
    import synth.tasks

    classes: list[type[Task]] = []
    for info in pkgutil.iter_modules(synth.tasks.__path__):
        classes.extend(_defined_in(importlib.import_module(f"synth.tasks.{info.name}")))
    classes.extend(map(_load_entry_point, entry_points(group=ENTRY_POINT_GROUP)))
    tasks: dict[str, type[Task]] = {}
    for cls in classes:
        check_class(cls)
        if cls.name in tasks and tasks[cls.name] is not cls:
            raise UserError(f"two tasks are named {cls.name!r} ({tasks[cls.name]!r} and {cls!r}); rename one")
        tasks[cls.name] = cls
    return tasks


def _load_entry_point(point: EntryPoint) -> type[Task]:
    """The task of an installed package."""
    package = point.dist.name if point.dist else point.value
    try:
        cls = point.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"task {point.name} of {package} does not import: {reason}; mend or uninstall it") from error
    if not inspect.isclass(cls) or not issubclass(cls, Task):
        raise UserError(f"{point.value}, task {point.name} of {package}, is no Task; mend or uninstall it")
    return cls


def task_names() -> dict[str, tuple[type[Task], dict[str, Any]]]:
    """Class and preset field values by the name of each task and preset."""
    names: dict[str, tuple[type[Task], dict[str, Any]]] = {}
    for name, cls in sorted(installed_tasks().items()):
        names[name] = (cls, {})
        for preset, values in cls.presets.items():
            names[preset] = (cls, dict(values))
    return names


def task_class(spec: str) -> tuple[type[Task], dict[str, Any]]:
    """Class and preset field values of a name or ``path.py:Class``. Raises UserError with the nearest name."""
    if is_file_spec(spec):
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
    """The task of a name, preset or ``path.py:Class``, with field values. Raises UserError on an unknown one."""
    cls, preset = task_class(spec)
    known = [f.name for f in fields(cls)]
    for name in values:
        if name not in known:
            raise UserError(f"task {cls.name} has no field {name!r}; its fields: {', '.join(known) or 'none'}")
    return cls(**{**preset, **values})
