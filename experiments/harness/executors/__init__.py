"""Where the runs of an experiment are carried out: in processes of this machine, on a Ray cluster, or by Slurm.

One executor is one file with `carry_out(plan, waiting, where, bar)`, which yields each run as it is done. All of them
call the same `execute(run)`, so that with one thread a run a CPU gives the same bits from each (work.py).
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Any

from experiments.harness.execution.distributed import in_ranks, several
from experiments.harness.execution.execute import finished, readable
from experiments.harness.executors.job_spec import Listed, Plan, Source, Where
from experiments.harness.executors.scheduling import longest_first
from experiments.harness.run import Run

__all__ = ["EXECUTORS", "Listed", "Plan", "Source", "Where", "check_executor", "run_all"]
EXECUTORS = ("inline", "ray", "slurm")


def check_executor(where: Where) -> None:
    """Raise UserError for what the executor needs and is not here, before anything is made for it."""
    module = import_module(f"{__name__}.{where.executor}")
    if hasattr(module, "check"):
        module.check(where)


def run_all(plan: Plan, runs: Sequence[Run], where: Where, done: Callable[[Run], None], bar: Any = None) -> None:
    """Carry out the runs that have no result yet; `done` is called after each.

    bar: a larger one, at 0, that these runs are part of (counted in steps, as tqdm's), by default one of their own.
    Raises UserError or OSError of the first run that fails; finished runs keep their results.
    """
    waiting = [run for run in longest_first(runs) if not readable(run, plan.root)]
    if not waiting:
        return
    where = in_ranks(where) if several() else where
    executor = import_module(f"{__name__}.{where.executor}")
    with _bar(waiting, len(runs)) if bar is None else nullcontext(bar) as bar:
        for run in executor.carry_out(plan, waiting, where, bar):
            count = sum(finished(each, plan.root) for each in runs)
            bar.set_postfix_str(f"{count} of {len(runs)} runs", refresh=sys.stderr.isatty())
            done(run)


def _bar(waiting: list[Run], total: int) -> Any:
    from tqdm import tqdm

    steps = sum(run.steps for run in waiting)
    # a log file wants a line now and then, a terminal a moving bar
    interval = 0.2 if sys.stderr.isatty() else 60.0
    already = f"{total - len(waiting)} of {total} runs"
    return tqdm(total=steps, unit="step", mininterval=interval, maxinterval=interval, postfix=already, smoothing=0.05)
