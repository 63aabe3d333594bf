"""How many questions of a task a model answers right, given the true text before each (Part 4.1, arXiv 2512.17351).

Part 4.1 tests Depo, Mano and the copy task at their largest size and counts all questions of a document. As the text
before a question is the truth, an answer whose every token is the likeliest is what greedy decoding writes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from lm.model import Decoder
from probing.scoring.likelihood import judged_targets
from synth import Block, Corpus, Task, UserError
from synth.corpus import mean_length

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Answers:
    """documents: test documents that are read, with all of their questions; hardest: at the task's largest size only,
    as the papers test, else with sizes as in training.

    Asked of tasks whose labels mark the tokens of answers: `answer`, the number of the question, and `difficulty`.
    """

    documents: int = 200
    hardest: bool = True

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise UserError(f"{self}: documents must be at least 1")

    def asked(self, task: Task) -> Task:
        """The task whose documents are read. Raises UserError where it has no largest size."""
        if not self.hardest:
            return task
        if not hasattr(task, "hardest"):
            raise UserError(f"{task.name} has no hardest(); set hardest=False, to ask at the sizes of training")
        return task.hardest()

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads, for the cost of a dry run."""
        return int(self.documents * mean_length(self.asked(task), "test"))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> Rows:
        """A row over all questions, difficulty "all", then one for each difficulty, easiest first.

        correct: share of questions with every token right; chance: the task's floor for that, over all difficulties;
        correct_tokens: share of answer tokens that are right; nats: their mean loss; questions: how many there were.
        Raises UserError for a task without the labels and for a model with positions for fewer tokens.
        """
        asked = self.asked(task)
        corpus = Corpus(asked, data_seed, "test")
        block = corpus.documents(0, self.documents, labels=True)
        if not {"answer", "difficulty"} <= block.labels.keys():
            raise UserError(f"{task.name} does not label its answers; ask a task that does, such as depo or mano")
        model.check_length(int(block.lengths.max()) - 1)
        judged = judged_targets(model, block.documents)
        right = np.concatenate([np.append(False, one) for one, _ in judged])  # nothing predicts a first token
        nats = np.concatenate([np.append(0.0, -said) for _, said in judged])
        chance = task_chance(asked, corpus.world)
        return [{**row, "chance": chance} for row in by_difficulty(block, right, nats)]


def task_chance(task: Task, world: Any) -> float:
    """The floor of `correct` of a task. Raises UserError where it names none."""
    floors = task.floors(world)
    if "correct" not in floors:
        raise UserError(f"the floors of {task.name} do not say what guessing scores on 'correct'; add it there")
    return floors["correct"]


def by_difficulty(block: Block, right: Bool[np.ndarray, " tokens"], nats: Float[np.ndarray, " tokens"]) -> Rows:
    """Rows over all questions of a block and over those of each difficulty, from the verdict on every token."""
    inside = np.flatnonzero(block.labels["answer"] >= 0)
    difficulty, question = block.labels["difficulty"][inside], questions(block, inside)
    groups = [("all", np.ones(len(inside), bool)), *((str(d), difficulty == d) for d in np.unique(difficulty))]
    rows = []
    for name, chosen in groups:
        kept = inside[chosen]
        _, number = np.unique(question[chosen], return_inverse=True)
        wrong = np.bincount(number, ~right[kept])
        rows.append(
            {
                "difficulty": name,
                "correct": float((wrong == 0).mean()),
                "correct_tokens": float(right[kept].mean()),
                "nats": float(nats[kept].mean()),
                "questions": len(wrong),
            }
        )
    return rows


def questions(block: Block, tokens: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " chosen"]:
    """A number for each of these tokens of answers that is the same for the tokens of one question only."""
    answer = block.labels["answer"].astype(np.int64)
    document = np.searchsorted(block.offsets, tokens, side="right") - 1
    return document * (1 + answer.max()) + answer[tokens]
