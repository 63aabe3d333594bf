"""Canonical form and hash of a configuration: equal configurations have equal hashes."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_NEVER = object()


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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        contents = value.contents() if hasattr(value, "contents") else {}
        shown = [f for f in dataclasses.fields(value) if f.metadata.get("neutral", _NEVER) != getattr(value, f.name)]
        named = {identity_name(f): canonical(getattr(value, f.name)) for f in shown}
        return {"class": identity_name(type(value)), **named, **contents}
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((canonical(item) for item in value), key=repr)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a configuration cannot hold a {type(value).__name__}: {value!r}")


def digest(value: Any, size: int = 16) -> str:
    """BLAKE2b hash of a configuration's canonical form: `size` bytes in hexadecimal."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
