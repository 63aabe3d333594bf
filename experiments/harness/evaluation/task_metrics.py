"""How well a model does a task, by whatever the task has: labelled answers, a grammar, or a score of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from experiments.harness.run import Rows
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Task

WAYS = ("answers", "solved", "validity", "score")
NO_SCORES = ("loss", "bits")  # floors that are no share of right answers
SEVERAL = ("brevo",)  # tasks whose labelled answer is one of several right ones


@dataclass(frozen=True)
class Scored:
    """Lets the model complete the prompts of test documents and asks the task's own score.

    Greedy where documents have prompts; documents from nothing are sampled at temperature 1. A completion has as many
    tokens as the longest true one, or ends with <eos>.
    """

    metric: str
    documents: int = 200

    version: ClassVar[int] = 1

    def measure(self, model: Any, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        """One row: the mean of the metric over the documents."""
        from lm.inference.sampling import generate

        corpus = Corpus(hardest(task), data_seed, "test")
        block = corpus.documents(0, self.documents)
        examples = [block[i] for i in range(len(block))]
        longest = int((block.lengths - block.prompt_lengths).max())
        room = min(longest, model.config.context + 1 - int(block.prompt_lengths.max()))
        temperature = 0.0 if block.prompt_lengths.max() > 1 else 1.0
        prompts = [example.prompt for example in examples]
        written = generate(model, prompts, room, temperature, corpus.vocab.eos, seed, progress=lambda done, of: None)
        pairs = zip(examples, written, strict=True)
        scores = [task.score(corpus.world, example, said)[self.metric] for example, said in pairs]
        return {self.metric: float(np.mean(scores))}


@dataclass(frozen=True)
class Measure:
    """An evaluation, the metric of its rows that counts, and the metric's chance where the rows do not have it."""

    evaluation: Any
    metric: str
    chance: float = 0.0

    def read(self, rows: Rows) -> tuple[float, float, dict[Any, float]]:
        """Score, chance and the score of every difficulty, easiest first; NaN for a training that diverged."""
        first = next((row for row in rows if row.get("difficulty", "all") == "all"), rows[0])
        parts = {row["difficulty"]: row[self.metric] for row in rows if row.get("difficulty", "all") != "all"}
        return first.get(self.metric, float("nan")), first.get("chance", self.chance), parts


def hardest(task: Task) -> Task:
    """The task at its largest size only, where it draws sizes."""
    return task.hardest() if hasattr(task, "hardest") else task


def measure_of(task: Task, seed: int, documents: int, way: str | None = None) -> Measure:
    """The measure that fits a task, or the one called `way`. Raises UserError where there is none."""
    ways: dict[str, Callable[[], Measure]] = {
        "answers": lambda: _answers(task, seed, documents),
        "solved": lambda: _solved(task, seed, documents),
        "validity": lambda: _validity(task, seed, documents),
        "score": lambda: _score(task, seed, documents),
    }
    return ways[way or _way(task, seed)]()


def _way(task: Task, seed: int) -> str:
    from synth.tasks.cfg import Cfg

    if isinstance(task, Cfg):
        return "validity"
    if not _labelled(task, seed):
        return "score"
    return "solved" if task.name in SEVERAL else "answers"


def _labelled(task: Task, seed: int) -> bool:
    return {"answer", "difficulty"} <= Corpus(task, seed, "test").documents(0, 8, labels=True).labels.keys()


def _answers(task: Task, seed: int, documents: int) -> Measure:
    from probing.reasoning.teacher_forced import Answers

    if not _labelled(task, seed):
        raise UserError(f"{task.name} does not label its answers and their difficulty; leave out --by")
    return Measure(Answers(documents, hasattr(task, "hardest")), "correct", _chance(task, seed))


def _solved(task: Task, seed: int, documents: int) -> Measure:
    from probing.reasoning.free_running import Solved

    return Measure(Solved(documents, hardest=hasattr(task, "hardest")), "correct", _chance(task, seed))


def _chance(task: Task, seed: int) -> float:
    """The floor of "correct", which both evaluations need."""
    from probing.reasoning.teacher_forced import task_chance

    return task_chance(hardest(task), task.world(seed))


def _validity(task: Task, seed: int, documents: int) -> Measure:
    from probing.grammar.validity import Validity
    from synth.tasks.cfg import Cfg

    if not isinstance(task, Cfg):
        raise UserError(f"validity needs a task whose truth is a grammar; {task.name} is none; leave out --by")
    chance = task.floors(task.world(seed))["valid"]
    return Measure(Validity(documents, (0,), kl_sentences=documents), "valid_0", chance)


def _score(task: Task, seed: int, documents: int) -> Measure:
    task = hardest(task)
    floors = {name: value for name, value in task.floors(task.world(seed)).items() if name not in NO_SCORES}
    if not floors:
        raise UserError(
            f"nothing says how well a model does {task.name}: name the chance of a metric of score() in floors(), "
            "or label answers and their difficulty"
        )
    metric = next(iter(floors))
    return Measure(Scored(metric, documents), metric, floors[metric])
