"""The canonical form of a configuration: one text for equal ones, kept only where nothing can change it."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from synth.identity import canonical, digest


@dataclass(frozen=True)
class Part:
    size: int = 3
    rate: float = 0.5
    name: str = 'ü"\\'
    extra: Any = field(default=None, metadata={"neutral": None})


@dataclass(frozen=True)
class Whole:
    part: Part = Part()
    tags: Any = (("a", True), ("b", None))


@dataclass(frozen=True)
class OfFile:
    path: str
    asked: ClassVar[list[str]] = []

    def contents(self) -> dict[str, str]:
        self.asked.append(self.path)
        return {"path": f"what {self.path} holds"}


PART = {"class": "Part", "size": 3, "rate": 0.5, "name": 'ü"\\'}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Part(), PART),
        (Part(extra=1), PART | {"extra": 1}),
        (Whole(), {"class": "Whole", "part": PART, "tags": [["a", True], ["b", None]]}),
        ({3: [1.5], "2": {"y", "x"}, "1": Part()}, {"1": PART, "2": ["x", "y"], "3": [1.5]}),
        ([np.int64(2), np.float64(-0.0), 1e22, 1e-7], [2, -0.0, 1e22, 1e-7]),
        (OfFile("a.cfg"), {"class": "OfFile", "path": "what a.cfg holds"}),
        ((float("inf"), 10**30, False), [float("inf"), 10**30, False]),
    ],
)  # fmt: skip
def test_the_digest_is_that_of_the_form_as_sorted_json(value: Any, form: Any) -> None:
    text = json.dumps(form, sort_keys=True, separators=(",", ":"))
    for _ in range(2):
        assert canonical(value) == form
        assert digest(value) == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_equal_values_of_other_types_stay_apart() -> None:
    assert len({digest(Part(size)) for size in (1, 1.0, True)}) == 3  # type: ignore[arg-type]


def test_what_can_be_changed_is_looked_at_again() -> None:
    inner: list[int] = [1]
    outer = Whole(tags=(("a", inner),))
    before = digest(outer)
    inner.append(2)
    assert digest(outer) != before == digest(Whole(tags=(("a", [1]),)))


def test_a_file_is_read_again_as_it_may_have_changed() -> None:
    of_file = Whole(tags=(OfFile("b.cfg"),))
    OfFile.asked.clear()
    assert digest(of_file) == digest(of_file) and OfFile.asked == ["b.cfg"] * 2
