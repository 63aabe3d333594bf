"""Which runs are trained together: those whose first trainings differ in seeds, rates and data alone
(lm.ensemble.train_many).

Grouping changes neither runs nor ids, only who trains the first stage: the worker that is given a group trains its
models at once, keeps them, and then carries out every run as ever. Numbers behind the limits: docs/many.md.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.execution.fit import in_stack
from experiments.harness.execution.trainings import folder_of
from experiments.harness.run import Run

MOST = 16  # models in a group


def in_groups(runs: Sequence[Run], root: Path, jobs: int) -> list[list[Run]]:
    """The runs in the order of each group's first, spread over so many jobs; most are groups of one."""
    together: dict[object, list[Run]] = defaultdict(list)
    for number, run in enumerate(runs):
        together[_key(run, root) or number].append(run)
    groups = []
    for alike in together.values():
        rounds = -(-len(alike) // (MOST * jobs))
        size = -(-len(alike) // (rounds * jobs))  # so that no job is left with half of what another has
        groups += [alike[begin : begin + size] for begin in range(0, len(alike), size)]
    return groups


def _key(run: Run, root: Path) -> object:
    """Equal for runs that can be trained together; None for one that is better trained alone, or is trained."""
    if not in_stack(run) or folder_of(run, root, 1).exists():
        return None
    from lm.ensemble.train_many import alike

    assert run.model is not None and run.train is not None
    return run.model, run.model.ids(run.task.vocab()), alike(run.train)
