"""Random streams: one independent generator for every tuple of keys.

Neighbouring keys must not share data (seeding by ``seed + index`` repeats most of it), so the keys are hashed, and the
hash keys a counter-based generator. Nothing here keeps state: the same keys give the same bytes in any process.
"""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

_NEVER = object()


def canonical(value: Any) -> Any:
    """A json-able form of a configuration in which equal values are equal text; dataclasses carry their class name.

    A field added to a configuration later is declared with `metadata={"neutral": value}`, the value under which
    everything is as it was before; while it has that value it is left out, so that the ids of older runs stay. A
    configuration that names a file says what is in it by `contents()`, a dict that replaces the fields it names.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        contents = value.contents() if hasattr(value, "contents") else {}
        shown = [f for f in dataclasses.fields(value) if f.metadata.get("neutral", _NEVER) != getattr(value, f.name)]
        return {"class": type(value).__name__, **{f.name: canonical(getattr(value, f.name)) for f in shown}, **contents}
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


def rng(*keys: Any) -> np.random.Generator:
    """The generator of a tuple of keys (Philox with a 128-bit key); different keys give unrelated streams."""
    return np.random.Generator(np.random.Philox(key=int(digest(list(keys)), 16)))
