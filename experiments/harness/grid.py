"""Settings that are chosen before the seeds that are reported: the same candidates for every arm of an experiment.

A run with a grid is trained with the candidate that did best on other seeds. The trials are runs of their own; their
results are in grid.csv beside the table. Protocol: Part 4.1 (arXiv 2512.17351), appendix A, which reports the best of a
list of learning rates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import inf, isnan
from typing import TYPE_CHECKING, Any, Literal

from synth.errors import UserError
from synth.identity import identity_name

if TYPE_CHECKING:
    from lm import TrainConfig

FIRST_TUNING_SEED = 1000  # reported seeds are below


@dataclass(frozen=True)
class Grid:
    """Candidate settings of one training stage, and how the best is chosen.

    candidates: the settings, at least two. criterion: a column of the trials' rows (of its rows the mean), or
    "train_loss"; goal: whether more or less of it is better. evaluations: what trials measure. stage: which training
    is tuned, 0 for the first. tie_margin: after one seed, candidates whose criterion lies within it of the best are
    trained with two more seeds, and the best mean of three is chosen; 0 for one seed.
    """

    candidates: "tuple[TrainConfig, ...]"
    criterion: str = "train_loss"
    goal: Literal["min", "max"] = "min"
    evaluations: tuple[Any, ...] = ()
    stage: int = 0
    tie_margin: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", tuple(self.candidates))
        object.__setattr__(self, "evaluations", tuple(self.evaluations))
        if len(set(self.candidates)) < 2:
            raise UserError("a grid needs at least two different candidates; leave the grid out, or add settings")
        if self.tie_margin < 0 or self.stage < 0:
            raise UserError(f"a grid cannot have tie_margin={self.tie_margin:g}, stage={self.stage}; give at least 0")

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the settings that differ between candidates. Steps that follow from a batch size are no axis."""
        names = [f.name for f in fields(self.candidates[0]) if len({getattr(c, f.name) for c in self.candidates}) > 1]
        derived = ("steps", "warmup_steps") if len(names) > 1 else ()
        return tuple(name for name in names if name not in derived) or tuple(names)

    def settings(self, candidate: "TrainConfig") -> dict[str, Any]:
        """The candidate's values on the axes, by the names that they have in tables."""
        identities = {f.name: identity_name(f) for f in fields(candidate)}
        return {identities[name]: getattr(candidate, name) for name in self.axes}

    def edges(self, candidate: "TrainConfig") -> list[str]:
        """The axes, of those with three values or more, on whose least or largest value the candidate lies;
        values that are no numbers have no edge."""
        found = []
        for name in self.axes:
            values = {getattr(each, name) for each in self.candidates}
            ordered = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
            if ordered and len(values) > 2 and getattr(candidate, name) in (min(values), max(values)):
                found.append(name)
        return found

    def score(self, value: float | None) -> float:
        """A criterion's value as a number of which more is better; a diverged trial is worst."""
        if value is None or isnan(value):
            return -inf
        return value if self.goal == "max" else -value


def train_grid(base: "TrainConfig", **values: Sequence[Any]) -> "tuple[TrainConfig, ...]":
    """The candidates with every combination of these values of fields of TrainConfig, e.g. lr=(1e-3, 3e-3)."""
    return tuple(replace(base, **dict(zip(values, chosen, strict=True))) for chosen in product(*values.values()))


def best_candidate(grid: Grid, results: Mapping[int, Sequence[float | None]]) -> int:
    """The candidate (its number) with the best mean criterion among those measured on the most seeds.

    results: by candidate, the criterion of each of its trials. The first of equally good candidates is chosen.
    """
    most = max(len(values) for values in results.values())
    means = {
        number: sum(map(grid.score, values)) / len(values) for number, values in results.items() if len(values) == most
    }
    return max(means, key=lambda number: (means[number], -number))


def close_candidates(grid: Grid, first: Sequence[float | None]) -> list[int]:
    """Numbers of the candidates whose first trial is within `tie_margin` of the best; empty if it stands alone."""
    worths = [grid.score(value) for value in first]
    best = max(worths)
    near = [number for number, worth in enumerate(worths) if worth > -inf and worth >= best - grid.tie_margin]
    return near if grid.tie_margin > 0 and len(near) > 1 else []


def tuning_seeds(grid: Grid) -> Iterator[int]:
    """The seeds of trials: one for all candidates, two more for close ones."""
    yield from range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + (3 if grid.tie_margin > 0 else 1))
