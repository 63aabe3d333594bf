"""Order in which runs are executed."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from experiments.harness.planning.cost import relative_time
from experiments.harness.run import Run, configuration_id


def schedule(runs: Sequence[Run]) -> list[Run]:
    """Sort by seed, for an early figure; within a seed the longest first, so that workers end together."""
    cost = cache(lambda configuration: relative_time(first[configuration]))
    first: dict[str, Run] = {}
    seen: dict[str, int] = defaultdict(int)
    keyed = []
    for run in runs:
        configuration = configuration_id(run)
        first.setdefault(configuration, run)
        keyed.append((seen[configuration], -cost(configuration), run))
        seen[configuration] += 1
    return [run for *_, run in sorted(keyed, key=lambda item: item[:2])]
