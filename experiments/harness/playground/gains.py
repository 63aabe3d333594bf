"""Claims about what one architecture gains over another on the playground's tasks.

Differences are paired by seed. A claim that names several gains falls with one of them, so that its primary line is the
least of them. Tests whose answers were seen in training decide nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf, isnan
from typing import TYPE_CHECKING, Any

from experiments.harness.playground.comparison import at_best_lr, paired_gain, select_scores
from experiments.harness.playground.task_suite import HOP_SCORE, SCORE_COLUMNS, has_held_out_tests, skill_name
from experiments.harness.reporting.claims import ClaimList, Gate
from experiments.harness.reporting.rows import mean_by_seed
from experiments.harness.statistics.estimates import Estimate, count_difference_of, mean_of, solved_of

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MIN_RATES = 3  # tried for each architecture: the least with a best one inside
LEARNT = 0.9  # right answers to one step, without which a model has not learnt the task and depth is not measured
SEEN = "every test expression was seen in training: memory is measured, not arithmetic"
Gain = tuple[str, str, str]  # a task, and two architectures: the first minus the second


class GainClaims:
    """The claims of an experiment about differences between architectures.

    table: its table. tasks: those of the playground that it has. paper: the paper's scores by task and architecture.
    rows: the part of the table whose scores are compared, by default all of it. `made` are the claims so far, `best`
    the scores at each architecture's best learning rate.
    """

    def __init__(
        self,
        table: "DataFrame",
        tasks: Iterable[str],
        paper: Mapping[str, Mapping[str, float]],
        rows: "DataFrame | None" = None,
    ) -> None:
        rows = table if rows is None else rows
        self.table, self.paper, self.made, self.note = table, paper, ClaimList(table), training_note(rows)
        self.rows = rows
        scores = select_scores(rows, {task: SCORE_COLUMNS[task] for task in tasks})
        self.best = at_best_lr(scores, ["task", "architecture"])

    def measured(self, tasks: Sequence[str], a: str, b: str) -> Estimate | None:
        """The gain, averaged over tasks; None if no seed has it."""
        return paired_gain(self.best[self.best["task"].isin(tasks)], a, b)

    def tuned(self, tasks: Sequence[str]) -> Gate:
        """The gate of every difference on these tasks."""
        return tuned_gate(self.rows[self.rows["task"].isin(tasks)])

    def published(self, tasks: Sequence[str], a: str, b: str) -> float | None:
        """The paper's gain on its own, larger tasks, averaged; None where it has none."""
        if not tasks or any(name not in self.paper[task] for task in tasks for name in (a, b)):
            return None
        return round(sum(self.paper[task][a] - self.paper[task][b] for task in tasks) / len(tasks), 3)

    def held_out(self, tasks: Iterable[str]) -> list[str]:
        """Those of the tasks that were run and whose tests are new to the model."""
        run = set(self.best["task"])
        return [task for task in tasks if task in run and has_held_out_tests(task, self.table)]

    def add(self, id: str, task: str, a: str, b: str, rule: str, **more: Any) -> None:
        """Append the claim about one gain on one task. more: limits, primary and gates, as for `ClaimList.add`."""
        words = f"{describe_score(task, self.table)}: {a} minus {b}"
        self._append(id, words, (task, a, b), self.measured([task], a, b), rule, self.tuned([task]), more)

    def add_least(self, id: str, words: str, gains: Sequence[Gain], rule: str, **more: Any) -> None:
        """Append the claim about the least of several gains; words: what they are, to which the least is added."""
        found = {gain: self.measured([gain[0]], *gain[1:]) for gain in gains}
        (task, a, b), estimate = least_of(found)
        one = f"{skill_name(task, self.table)}, {a} minus {b}"
        words = f"{words} (least: {one})" if len(gains) > 1 else f"{describe_score(task, self.table)}: {a} minus {b}"
        tuned = self.tuned([gain[0] for gain in gains])
        self._append(id, words, (task, a, b), estimate, rule, tuned, more)

    def add_mean(self, id: str, tasks: Sequence[str], a: str, rivals: Sequence[str], rule: str, **more: Any) -> None:
        """Append the claim about the gain averaged over tasks, against the strongest of some rivals."""
        b, estimate = least_of({rival: self.measured(tasks, a, rival) for rival in rivals})
        against = f"the stronger of {' and '.join(rivals)} (here {b})" if len(rivals) > 1 else b
        words = f"mean share right over {list_skills(tasks, self.table)}: {a} minus {against}"
        gates = (self.tuned(tasks), *more.pop("gates", ()))
        self.made.add(id, words, estimate, self.published(tasks, a, b), rule, note=self.note, gates=gates, **more)

    def _append(
        self, id: str, words: str, gain: Gain, found: Estimate | None, rule: str, tuned: Gate, more: dict[str, Any]
    ) -> None:
        task, a, b = gain
        new = has_held_out_tests(task, self.table)
        note, gates = self.note if new else SEEN, (tuned, *more.pop("gates", ()))
        self.made.add(id, words, found, self.published([task], a, b), rule, new, note=note, gates=gates, **more)


def least_of(estimates: Mapping[Any, Estimate | None]) -> tuple[Any, Estimate | None]:
    """The name and estimate with the lowest lower limit: a claim that names several gains is shown if this one is.

    What no seed has comes first, with None. Raises ValueError without estimates.
    """
    return min(estimates.items(), key=lambda item: _lower_limit(item[1]))


def _lower_limit(gain: Estimate | None) -> float:
    if gain is None:
        return -inf
    limit = gain.interval().low
    return gain.mean if isnan(limit) else limit  # a single seed has no limits


def tuned_gate(table: "DataFrame") -> Gate:
    """That every architecture was trained at the best of several learning rates: at one rate for all, a difference may
    be that of their rates. The rates of a grid are counted by the column grid_size, others by the rows."""
    arms = table.groupby(["task", "architecture"])
    tried = arms["lr"].nunique()
    if "grid_size" in table:
        tried = tried.combine(arms["grid_size"].max(), max)
    return Gate("learning rates tried for each architecture", float(tried.min()), at_least=MIN_RATES)


def training_note(table: "DataFrame") -> str:
    """What a difference between architectures leaves open, for the note of a claim."""
    rates = table.groupby(["task", "architecture"])["lr"].nunique().max()
    chosen = "one learning rate for all" if rates == 1 else "each at the best of several learning rates"
    return f"after equal training, {chosen}; whether the worse one would catch up was not measured"


# ---- counts and flags ------------------------------------------------------------------------------------------
def count_gain(a: "Series", b: "Series") -> Estimate | None:
    """The mean of a - b, counts paired by seed, with the limits of a sign test; they are infinite where all
    differences are equal, as these say nothing about how far another seed may be from them. None if no seed has both.
    """
    found = count_difference_of(a, b)
    return replace(found, limits_at=lambda level: (-inf, inf)) if found and found.values.nunique() == 1 else found


def solved_gain(a: "Series", b: "Series") -> Estimate | None:
    """The share of seeds in a less that in b, both flags, over the seeds that have both; None if no seed has.

    From the exact limits of the two shares (`solved_of`), each at half of the error, so that both hold together; they
    have a width also where all seeds agree.
    """
    pairs = (a - b).dropna()
    first, second = solved_of(a.loc[pairs.index]), solved_of(b.loc[pairs.index])
    if first is None or second is None:
        return None

    def limits_at(level: float) -> tuple[float, float]:
        (low_a, high_a), (low_b, high_b) = (share.limits_at((1 + level) / 2) for share in (first, second))
        return low_a - high_b, high_a - low_b

    return Estimate(pairs, float(pairs.mean()), limits_at)


# ---- words -----------------------------------------------------------------------------------------------------
def describe_score(task: str, table: "DataFrame") -> str:
    """A task's skill and what its score is a share of."""
    return f"{skill_name(task, table)}, share of {'valid sentences' if task == 'cfg' else 'right answers'}"


def list_skills(tasks: Iterable[str], table: "DataFrame") -> str:
    """The skills of several tasks, as in "depth, breadth and structure"; "no task" without any."""
    names = [skill_name(task, table) for task in tasks]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names or ["no task"])


# ---- depth by number of steps ----------------------------------------------------------------------------------
def hop_rows(table: "DataFrame") -> "DataFrame":
    """The scores of depo by number of steps (column `part`, as text), at each architecture's best rate over all
    steps."""
    depo = table[table["task"] == "depo"]
    best = at_best_lr(SCORE_COLUMNS["depo"].select(depo), ["architecture"])
    best, parts = best[["architecture", "lr"]].drop_duplicates(), HOP_SCORE.select(depo)
    return parts[parts["part"].str.isdigit()].merge(best, on=["architecture", "lr"])


def learnt_gate(table: "DataFrame", architecture: str) -> Gate:
    """That an architecture answers one step: otherwise its training, and not its depth, is measured."""
    answers = mean_by_seed(hop_rows(table), "score", part="1", architecture=architecture)
    return Gate(f"right answers to one step, {architecture}", mean_of(answers, 0.0, 1.0), at_least=LEARNT)
