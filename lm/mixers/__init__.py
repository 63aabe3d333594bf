"""Token mixers: one file each under lm/mixers, found by `name`, or a user's file given by its path."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from lm.mixers.base import Mixer
from synth.errors import UserError
from synth.user_code import is_file_spec, load_file


def _defined_in(module: ModuleType) -> Iterator[type[Mixer]]:
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Mixer) and value.__module__ == module.__name__:
            yield value


@cache
def installed_mixers() -> dict[str, type[Mixer]]:
    """The mixers under lm/mixers/ by name. Raises UserError if two have the same name."""
    mixers: dict[str, type[Mixer]] = {}
    for info in pkgutil.iter_modules(__path__):
        for cls in _defined_in(importlib.import_module(f"{__name__}.{info.name}")):
            if cls.name and mixers.setdefault(cls.name, cls) is not cls:  # base classes have no name
                raise UserError(f"two mixers are named {cls.name!r} ({mixers[cls.name]!r} and {cls!r}); rename one")
    return mixers


def mixer_class(spec: str) -> type[Mixer]:
    """The mixer class of a name or a ``path.py:Class`` spec. Raises UserError, with the nearest name, if unknown."""
    if is_file_spec(spec):
        path, _, name = spec.partition(":")
        classes = {cls.__name__: cls for cls in _defined_in(load_file(Path(path), "mixer"))}
        if not name and len(classes) == 1:
            name = next(iter(classes))
        if name not in classes:
            raise UserError(f"{path} defines {', '.join(classes) or 'no Mixer'}; name one as {path}:Class")
        return classes[name]
    mixers = installed_mixers()
    if spec not in mixers:
        known = ["attention", *mixers]
        near = difflib.get_close_matches(spec, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no mixer named {spec!r}; {hint}the mixers: {', '.join(known)}; or path/to/file.py:Class")
    return mixers[spec]
