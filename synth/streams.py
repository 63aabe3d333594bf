"""Random streams: one independent generator for every tuple of keys.

Neighbouring keys must not share data (seeding by ``seed + index`` repeats most of it), so the keys are hashed, and the
hash keys a counter-based generator. Nothing here keeps state: the same keys give the same bytes in any process.
"""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
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


def rng(*keys: Any) -> np.random.Generator:
    """The generator of a tuple of keys (Philox with a 128-bit key); different keys give unrelated streams."""
    return np.random.Generator(np.random.Philox(key=int(digest(list(keys)), 16)))


def words(keys: tuple[Any, ...], first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(n, count) random uint64: row i is a pure function of the keys, first[i] and second[i] (whole numbers >= 0).

    `rng` for many small records at once, such as the documents of a block, each known by its epoch and its item. Column
    j does not depend on `count`.
    """
    low, high = (np.uint64(int(digest(list(keys)), 16) >> shift & 2**64 - 1) for shift in (0, 64))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        row = _scramble(low + _GOLDEN * (first.astype(np.uint64) + np.uint64(1)))
        row = _scramble((row ^ high) + _GOLDEN * (second.astype(np.uint64) + np.uint64(1)))
        return _scramble(row[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))


def _scramble(x: np.ndarray) -> np.ndarray:
    """The output function of splitmix64: every bit of x moves every bit of the result."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def below(random: np.ndarray, bound: int | np.ndarray) -> np.ndarray:
    """Numbers 0..bound-1 (int64) from random uint64 words; bound < 2**31. The bias is below 2**-31."""
    return ((random >> np.uint64(33)) * np.asarray(bound, np.uint64) >> np.uint64(31)).astype(np.int64)
