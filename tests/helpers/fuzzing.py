"""What the fuzz tests share: spoiled inputs, and the time that each may take.

FUZZ=5000 tries so many inputs of each kind, others every time; FUZZ_REPORT names a file that then gets a line for each:
how many there were, and the slowest one.
"""

import atexit
import copy
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from synth.errors import UserError

FUZZ = int(os.environ.get("FUZZ", "0"))
SECONDS = 5.0  # of processor time, for any input
SLOWEST: dict[str, tuple[int, float, str]] = {}  # of every target: inputs, the slowest one's seconds, and its beginning


def tries(usual: int) -> Callable[[Any], Any]:
    """So many inputs, the same ones every time; with FUZZ, as many as that says, and others."""
    return settings(
        max_examples=FUZZ or usual, derandomize=not FUZZ, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


class TooSlow(BaseException):
    """Not to be taken for an error that a reader may handle."""


@contextmanager
def timed(target: str, given: object) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TooSlow(f"{target}: more than {SECONDS:g} s for {str(given)[:200]!r}")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    began = time.process_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        took = time.process_time() - began
        count, most, which = SLOWEST.get(target, (0, -1.0, ""))
        slower = (took, repr(given)[:300]) if took > most else (most, which)
        SLOWEST[target] = (count + 1, *slower)


def reads(target: str, given: object, work: Callable[[], Any]) -> None:
    """It returns or raises UserError of one line, soon."""
    with timed(target, given):
        try:
            work()
        except UserError as error:
            assert "\n" not in str(error), (target, given, str(error))


# ---- inputs ----------------------------------------------------------------------------------------------------
HUGE = [2**31, 2**63, 2**64, 10**30, -(2**63), -1, 0, 10**9]
JUNK = st.one_of(
    st.sampled_from([None, True, False, "", "0", float("nan"), float("inf"), -0.0, 1e308, [], {}, [[]], [[[]]], *HUGE]),
    st.integers(), st.text(max_size=8), st.lists(st.integers(-2, 9), max_size=4), st.floats(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
BITS = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"\0", b"\n", b'"', b"|", b"->", b"\xff", b"[", b"1e999", b","])
)


@st.composite
def spoiled(draw: Any, whole: bytes, pieces: st.SearchStrategy = BITS) -> bytes:
    """Bytes of which some were cut out, put in, repeated or turned."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 40)))
        kind = draw(st.integers(0, 3))
        data[at:to] = (b"", draw(pieces), bytes(data[at:to]) * 2, bytes(byte ^ 16 for byte in data[at:to]))[kind]
    return bytes(data)


@st.composite
def bent(draw: Any, whole: Any) -> Any:
    """A JSON value in which some parts have become something else, or are gone."""
    found = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(found, dict | list) or not found:
            return copy.deepcopy(draw(JUNK))
        here = found
        while True:
            key = draw(st.sampled_from(sorted(here)) if isinstance(here, dict) else st.integers(0, len(here) - 1))
            below = here[key]
            if not isinstance(below, dict | list) or not below or draw(st.booleans()):
                break
            here = below
        if draw(st.booleans()):
            here[key] = copy.deepcopy(draw(JUNK))
        elif draw(st.booleans()):
            del here[key]
        elif isinstance(here, dict):
            here[draw(st.text(max_size=5))] = here[key]
        else:
            here[key:key] = [here[key]] * draw(st.integers(1, 3))
    return found


DEEP = ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "1" * 5000, '{"tokens": ' + "9" * 5000 + "}"]


def shared(factory: pytest.TempPathFactory) -> Path:
    """A folder for all inputs of a session: each writes over the last."""
    folder = factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    return folder


def report() -> None:
    with open(os.environ["FUZZ_REPORT"], "a") as file:
        for target, (count, took, which) in SLOWEST.items():
            print(f"{target}: {count} inputs, slowest {took:.2f} s: {which}", file=file)


if "FUZZ_REPORT" in os.environ:
    atexit.register(report)
