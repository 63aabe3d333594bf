"""Choose the evaluation and metric of any task: labelled answers, grammar validity, or the task's own score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from experiments.harness.run import Rows
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Task

METRICS = ("answers", "solved", "validity", "score")
NON_SCORE_FLOORS = ("loss", "bits")  # floors of tasks that are no share of correct answers
MULTIPLE_ANSWER_TASKS = ("brevo",)  # tasks with several correct answers, of which one is labelled


@dataclass(frozen=True)
class TaskScore:
    """Mean of the task's own score of the model's completions of test prompts.

    metric: key of `task.score`; documents: number of test documents. Decoding is greedy, but at temperature 1 for
    documents without a prompt. A completion ends with <eos>, or at the length of the longest true one.
    """

    identity_name = "Scored"
    metric: str
    documents: int = 200

    version: ClassVar[int] = 1

    def measure(self, model: Any, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        """{metric: mean over the documents}."""
        from lm.inference.sampling import generate

        corpus = Corpus(at_hardest_size(task), data_seed, "test")
        block = corpus.documents(0, self.documents)
        examples = [block[i] for i in range(len(block))]
        longest = int((block.lengths - block.prompt_lengths).max())
        max_tokens = min(longest, model.config.max_seq_len + 1 - int(block.prompt_lengths.max()))
        temperature = 0.0 if block.prompt_lengths.max() > 1 else 1.0
        prompts = [example.prompt for example in examples]
        eos = corpus.vocab.eos
        completions = generate(model, prompts, max_tokens, temperature, eos, seed, progress=lambda done, of: None)
        pairs = zip(examples, completions, strict=True)
        scores = [task.score(corpus.world, example, completion)[self.metric] for example, completion in pairs]
        return {self.metric: float(np.mean(scores))}


@dataclass(frozen=True)
class TaskMetric:
    """An evaluation, the column of its rows that is the score, and the score's chance if rows have no column for it."""

    evaluation: Any
    metric: str
    chance: float = 0.0

    def read_score(self, rows: Rows) -> tuple[float, float, dict[Any, float]]:
        """Score (NaN after divergence), chance, and the score of every difficulty, easiest first."""
        first = next((row for row in rows if row.get("difficulty", "all") == "all"), rows[0])
        by_difficulty = {row["difficulty"]: row[self.metric] for row in rows if row.get("difficulty", "all") != "all"}
        return first.get(self.metric, float("nan")), first.get("chance", self.chance), by_difficulty


def at_hardest_size(task: Task) -> Task:
    """The task at its largest size only, if it draws sizes; otherwise the task itself."""
    return task.hardest() if hasattr(task, "hardest") else task


def metric_for(task: Task, seed: int, documents: int, metric: str | None = None) -> TaskMetric:
    """The evaluation of a task: `metric` of METRICS, by default the one that fits. Raises UserError if none does."""
    builders: dict[str, Callable[[], TaskMetric]] = {
        "answers": lambda: _answers(task, seed, documents),
        "solved": lambda: _solved(task, seed, documents),
        "validity": lambda: _validity(task, seed, documents),
        "score": lambda: _score(task, seed, documents),
    }
    return builders[metric or _default_metric(task, seed)]()


def _default_metric(task: Task, seed: int) -> str:
    from synth.tasks.cfg import Cfg

    if isinstance(task, Cfg):
        return "validity"
    if not _labelled(task, seed):
        return "score"
    return "solved" if task.name in MULTIPLE_ANSWER_TASKS else "answers"


def _labelled(task: Task, seed: int) -> bool:
    return {"answer", "difficulty"} <= Corpus(task, seed, "test").documents(0, 8, labels=True).labels.keys()


def _answers(task: Task, seed: int, documents: int) -> TaskMetric:
    from probing.reasoning.teacher_forced import TeacherForcedAccuracy

    if not _labelled(task, seed):
        raise UserError(f"{task.name} does not label its answers and their difficulty; leave out --metric")
    return TaskMetric(TeacherForcedAccuracy(documents, hasattr(task, "hardest")), "correct", _chance(task, seed))


def _solved(task: Task, seed: int, documents: int) -> TaskMetric:
    from probing.reasoning.free_running import SolveRate

    return TaskMetric(SolveRate(documents, hardest=hasattr(task, "hardest")), "correct", _chance(task, seed))


def _chance(task: Task, seed: int) -> float:
    """Chance of "correct" at the task's largest size."""
    from probing.reasoning.teacher_forced import chance_accuracy

    return chance_accuracy(at_hardest_size(task), task.world(seed))


def _validity(task: Task, seed: int, documents: int) -> TaskMetric:
    from probing.grammar.validity import Validity
    from synth.tasks.cfg import Cfg

    if not isinstance(task, Cfg):
        raise UserError(f"validity needs a task whose truth is a grammar; {task.name} is none; leave out --metric")
    chance = task.floors(task.world(seed))["valid"]
    return TaskMetric(Validity(documents, (0,), kl_sentences=documents), "valid_0", chance)


def _score(task: Task, seed: int, documents: int) -> TaskMetric:
    task = at_hardest_size(task)
    floors = {name: value for name, value in task.floors(task.world(seed)).items() if name not in NON_SCORE_FLOORS}
    if not floors:
        raise UserError(
            f"nothing says how well a model does {task.name}: name the chance of a metric of score() in floors(), "
            "or label answers and their difficulty"
        )
    metric = next(iter(floors))
    return TaskMetric(TaskScore(metric, documents), metric, floors[metric])
