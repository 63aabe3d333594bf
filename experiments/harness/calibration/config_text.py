"""Configurations as text: fields given on a command line, and a configuration as the code that makes it."""

import difflib
import json
import types
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from synth.errors import UserError
from synth.registry import get_task
from synth.task import Task


def parse_assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    """Fields and values of texts like "n_layers=2,d_model=64"; a piece without = belongs to the value before it.

    Raises UserError that names the option.
    """
    found: dict[str, str] = {}
    for text in texts:
        last = ""
        for piece in text.split(","):
            name, equals, value = piece.partition("=")
            if equals:
                last = name.strip()
                if not last or last in found:
                    raise UserError(f"{option} {text}: give every field once, as in n_layers=2,d_model=64")
                found[last] = value
            elif last:
                found[last] += f",{piece}"
            else:
                raise UserError(f"{option} {text}: no field is named; write field=value")
    return found


def parse_values(cls: type, texts: dict[str, str], option: str) -> dict[str, Any]:
    """The values of these texts, each of the type of the dataclass's field. Raises UserError with the nearest field."""
    return {name: parse_value(cls, name, text, option) for name, text in texts.items()}


def parse_value(cls: type, name: str, text: str, option: str) -> Any:
    """The value of a text for the field `name` of a dataclass. Raises UserError for an unknown field or a bad value."""
    known = [f.name for f in fields(cls)]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"its fields: {', '.join(known) or 'none'}"
        raise UserError(f"{option} {name}={text}: {cls.__name__} has no field {name!r}; {hint}")
    hint = _field_types(cls)[name]
    try:
        return _parse(text, hint)
    except (ValueError, KeyError):
        kind = getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint).replace("typing.", "")
        raise UserError(f"{option} {name}={text}: {name} of {cls.__name__} takes {kind}") from None


@cache
def _field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, looked up once: a grid of many values asks for the same one each time."""
    return get_type_hints(cls)


def _parse(text: str, hint: Any) -> Any:
    """The value of a text for a type. Raises ValueError or KeyError if it has no such value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        # any text is a str, so this comes last
        return _parse_union(text, sorted(arguments, key=lambda kind: kind is str))
    if origin is tuple:
        pieces = [piece for piece in text.split(",") if piece]
        kinds = arguments[:1] * len(pieces) if arguments[-1] is ... else arguments
        return tuple(_parse(piece, kind) for piece, kind in zip(pieces, kinds, strict=True))
    if hint in (int, float, str):
        return hint(text)
    known = arguments if origin is Literal else {bool: (True, False), type(None): (None,)}.get(hint, ())
    return {str(each).lower(): each for each in known}[text.lower()]


def _parse_union(text: str, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        try:
            return _parse(text, kind)
        except (ValueError, KeyError):
            continue
    raise ValueError


def to_code(value: Any) -> str:
    """The expression that makes a value; of a dataclass only the fields that differ from their defaults.

    A task from a file is made by get_task. Evaluated after `import_lines`, it gives an equal value.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(to_code, value))}{',' * (len(value) == 1)})"
    if not is_dataclass(value) or isinstance(value, type):
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    given = [f"{f.name}={to_code(getattr(value, f.name))}" for f in fields(value) if _differs_from_default(value, f)]
    if isinstance(value, Task) and value.origin:
        return f"get_task({', '.join([to_code(value.origin), *given])})"
    return f"{type(value).__name__}({', '.join(given)})"


def _differs_from_default(value: Any, field: Any) -> bool:
    if field.default_factory is not MISSING:
        return getattr(value, field.name) != field.default_factory()
    return field.default is MISSING or getattr(value, field.name) != field.default


def import_lines(values: Sequence[Any]) -> list[str]:
    """The import lines that the code of these dataclasses needs, without repetitions."""
    found: dict[str, set[str]] = {}
    for each in values:
        needed = get_task if isinstance(each, Task) and each.origin else type(each)
        found.setdefault(needed.__module__, set()).add(needed.__name__)
    return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(found.items())]
