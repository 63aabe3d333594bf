"""Canonical form and hash of a configuration: equal configurations have equal hashes."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

_NEVER = object()
_quote = json.encoder.encode_basestring_ascii
_KEPT = "_canonical_text"  # in the __dict__ of a frozen dataclass


def identity_name(of: type | dataclasses.Field[Any]) -> str:
    """Name of a dataclass or of one of its fields in hashes and tables.

    By default its name in the code. After a rename the old one stays as the class attribute `identity_name` (not
    inherited) or as the field's `metadata={"identity": name}`, so that old results stay valid.
    """
    if isinstance(of, type):
        return vars(of).get("identity_name", of.__name__)
    return of.metadata.get("identity", of.name)


def names_by_identity(cls: type) -> dict[str, str]:
    """The names of a dataclass's fields in the code, by their identity names."""
    return {identity_name(field): field.name for field in dataclasses.fields(cls)}


def fields_by_identity(cls: type, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a dataclass from values by identity name. Raises KeyError for an unknown name."""
    names = names_by_identity(cls)
    return {names[name]: value for name, value in recorded.items()}


def canonical(value: Any) -> Any:
    """JSON form of a configuration; a dataclass is a dict of its class and fields by `identity_name`.

    A field that is added later has `metadata={"neutral": value}` and is left out while it has that value, so that the
    ids of older runs stay. A method `contents()` of a dataclass returns a dict that replaces the fields it names, for
    example a file's path by its content. Raises TypeError for a value that cannot be hashed so.
    """
    return json.loads(_encode(value)[0])


def digest(value: Any, size: int = 16) -> str:
    """BLAKE2b hash of a configuration's canonical form: `size` bytes in hexadecimal."""
    return hashlib.blake2b(_encode(value)[0].encode(), digest_size=size).hexdigest()


def _encode(value: Any) -> tuple[str, bool]:
    """The canonical form as JSON with sorted keys, and whether it stays the same for ever.

    A frozen dataclass that holds nothing else keeps its text, so that its `contents()` are asked for once: planning
    needs the ids of thousands of runs again and again, and they share tasks, models and settings.
    """
    if (encode := _ENCODERS.get(type(value))) is not None:
        return encode(value), True
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_dataclass(value)
    if isinstance(value, tuple):
        return _encode_list(value)
    if isinstance(value, dict):
        return _encode_dict({str(key): _encode(item)[0] for key, item in value.items()}), False
    if isinstance(value, list):
        return _encode_list(value)[0], False
    if isinstance(value, (set, frozenset)):
        return (
            f"[{','.join(sorted((_encode(item)[0] for item in value), key=lambda text: repr(json.loads(text))))}]",
            False,
        )
    if isinstance(value, np.generic):
        return _encode(value.item())
    if isinstance(value, (bool, int, float, str)):  # of a class of its own
        return json.dumps(value), True
    raise TypeError(f"a configuration cannot hold a {type(value).__name__}: {value!r}")


_ENCODERS: dict[type, Callable[[Any], str]] = {
    str: _quote,
    int: int.__repr__,
    bool: lambda value: "true" if value else "false",
    float: json.dumps,
    type(None): lambda _: "null",
}


def _encode_dataclass(value: Any) -> tuple[str, bool]:
    kind: Any = type(value)
    kept = getattr(value, "__dict__", {})
    if _KEPT in kept:
        return kept[_KEPT], True
    contents = value.contents() if hasattr(value, "contents") else {}
    fixed, texts = not contents, {"class": _quote(identity_name(kind))}
    for name, attribute, neutral in _named_fields(kind):
        item = getattr(value, attribute)
        if name not in contents and (neutral is _NEVER or neutral != item):
            texts[name], is_fixed = _encode(item)
            fixed = fixed and is_fixed
    # contents are those of a file, which may change
    text = _encode_dict(texts | {name: _encode(item)[0] for name, item in contents.items()})
    if fixed and kind.__dataclass_params__.frozen and hasattr(value, "__dict__"):
        vars(value)[_KEPT] = text
    return text, fixed


@cache
def _named_fields(cls: type) -> list[tuple[str, str, Any]]:
    """Of every field its identity name, its name in the code, and the value at which it is left out."""
    return [(identity_name(f), f.name, f.metadata.get("neutral", _NEVER)) for f in dataclasses.fields(cls)]


def _encode_dict(texts: Mapping[str, str]) -> str:
    return f"{{{','.join(f'{_quote(key)}:{texts[key]}' for key in sorted(texts))}}}"


def _encode_list(values: Sequence[Any]) -> tuple[str, bool]:
    parts = [_encode(item) for item in values]
    return f"[{','.join(text for text, _ in parts)}]", all(fixed for _, fixed in parts)
