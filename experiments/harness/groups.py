"""Which runs are trained together: those whose first trainings differ in seeds, rates and data alone (lm.many).

Grouping changes neither runs nor ids, only who trains the first stage: the worker that is given a group trains its
models at once, keeps them, and then carries out every run as ever. Numbers behind the limits: docs/many.md.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.models import folder_of
from experiments.harness.runs import Run

if TYPE_CHECKING:
    from lm.config import ModelConfig

MOST = 8  # models in a group: beyond, a CPU's caches overflow
# a group pays while calls cost more than arithmetic: parameters times tokens of a batch, on a CPU and on a GPU
LIMITS = {"cpu": 2e7, "cuda": 1e10}


def in_groups(runs: Sequence[Run], root: Path, jobs: int) -> list[list[Run]]:
    """The runs in the order of each group's first, spread over so many jobs; most are groups of one."""
    together: dict[object, list[Run]] = defaultdict(list)
    for number, run in enumerate(runs):
        together[_key(run, root) or number].append(run)
    groups = []
    for alike in together.values():
        size = min(MOST, -(-len(alike) // jobs))
        groups += [alike[begin : begin + size] for begin in range(0, len(alike), size)]
    return groups


def _key(run: Run, root: Path) -> object:
    """Equal for runs that can be trained together; None for one that is better trained alone, or is trained."""
    if run.model is None or run.train is None or run.train.accumulate > 1 or folder_of(run, root, 1).exists():
        return None
    from lm.many import alike
    from lm.together import stackable
    from lm.train import where

    size = run.model.ids(run.task.vocab())
    arithmetic = _parameters(run.model, size) * run.train.batch * run.train.window
    limit = LIMITS["cpu" if where().device.type == "cpu" else "cuda"]
    return (run.model, size, alike(run.train)) if stackable(run.model) and arithmetic <= limit else None


@cache
def _parameters(model: "ModelConfig", vocab_size: int) -> int:
    from lm.model import outline
    from lm.parameters import count_parameters

    return count_parameters(outline(model, vocab_size))["total"]
