"""The identity of a configuration: equal configurations have equal text, and so the same hash and the same id."""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

_NEVER = object()


def identity_name(of: type | dataclasses.Field[Any]) -> str:
    """The name under which a dataclass or one of its fields enters hashes and tables.

    It is its name in the code, unless a class says otherwise by an attribute `identity_name` of its own (subclasses do
    not inherit it) or a field by `metadata={"identity": name}`: so a thing can be renamed and old results stay valid.
    """
    if isinstance(of, type):
        return vars(of).get("identity_name", of.__name__)
    return of.metadata.get("identity", of.name)


def canonical(value: Any) -> Any:
    """A json-able form of a configuration in which equal values are equal text; dataclasses carry their identity name.

    A field added to a configuration later is declared with `metadata={"neutral": value}`, the value under which
    everything is as it was before; while it has that value it is left out, so that the ids of older runs stay. A class
    or a field that is renamed keeps the name it had here (`identity_name`). A configuration that names a file says what
    is in it by `contents()`, a dict that replaces the fields it names.
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
    """Hexadecimal hash (``size`` bytes) of a configuration's canonical form."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
