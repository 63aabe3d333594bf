"""Group runs that can be trained together: their first stages differ only in seeds, learning rates and data
(lm.ensemble.train_many).

Grouping changes neither runs nor ids: a worker trains the models of a group together, caches them, and then executes
every run as usual. Measurements behind the limits: docs/many.md.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.execution.fit import uses_ensemble
from experiments.harness.execution.model_cache import model_dir
from experiments.harness.run import Run

MAX_GROUP_SIZE = 16  # models in a group


def group_runs(runs: Sequence[Run], root: Path, jobs: int) -> list[list[Run]]:
    """Split runs into groups that can be trained together, balanced over `jobs`; most groups have one run."""
    together: dict[object, list[Run]] = defaultdict(list)
    for number, run in enumerate(runs):
        together[_key(run, root) or number].append(run)
    groups = []
    for alike in together.values():
        rounds = -(-len(alike) // (MAX_GROUP_SIZE * jobs))
        size = -(-len(alike) // (rounds * jobs))  # equal sizes, so that all jobs end together
        groups += [alike[begin : begin + size] for begin in range(0, len(alike), size)]
    return groups


def _key(run: Run, root: Path) -> object:
    """Equal for runs that can be trained together; None for a run that is not grouped, or whose model is cached."""
    if not uses_ensemble(run) or model_dir(run, root, 1).exists():
        return None
    from lm.ensemble.train_many import shared_settings

    assert run.model is not None and run.train is not None
    size = run.model.model_vocab_size(run.task.vocab())
    return run.model, size, shared_settings(run.train), run.snapshot_steps(0)
