"""Share of a task's questions a model answers correctly, given the true text before each (Part 4.1, arXiv 2512.17351).

Part 4.1 evaluates Depo, Mano and the copy task at their largest size, on all questions of a document. An answer counts
as correct if each of its tokens is the argmax given the document before it: exactly what greedy decoding generates.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from lm.model import Decoder
from probing.reasoning.free_running import evaluated_task
from probing.scoring.likelihood import argmax_and_log_probabilities
from synth import Block, Corpus, Task, UserError
from synth.corpus import mean_length

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class TeacherForcedAccuracy:
    """documents: number of test documents, with all of their questions. hardest: only the task's largest size, as in
    the paper, instead of the sizes of training.

    For tasks that label the tokens of answers: `answer`, the index of the question, and `difficulty`.
    """

    identity_name = "Answers"

    documents: int = 200
    hardest: bool = True

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise UserError(f"{self}: documents must be at least 1")

    def tokens(self, task: Task) -> int:
        """Estimated number of tokens read, for the cost of a dry run."""
        return int(self.documents * mean_length(evaluated_task(task, self.hardest), "test"))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> Rows:
        """A row over all questions, difficulty "all", then one for each difficulty, easiest first.

        correct: share of questions with every token correct; chance: the task's floor of it over all difficulties;
        correct_tokens: share of correct answer tokens; nats: mean loss of answer tokens; questions: their number.
        Raises UserError for a task without the labels, and if documents do not fit the model's position table.
        """
        variant = evaluated_task(task, self.hardest)
        corpus = Corpus(variant, data_seed, "test")
        block = corpus.documents(0, self.documents, labels=True)
        if not {"answer", "difficulty"} <= block.labels.keys():
            raise UserError(f"{task.name} does not label its answers; ask a task that does, such as depo or mano")
        model.check_length(int(block.lengths.max()) - 1)
        predictions = argmax_and_log_probabilities(model, block.documents)
        correct = np.concatenate([np.append(False, is_argmax) for is_argmax, _ in predictions])  # first: not predicted
        nats = np.concatenate([np.append(0.0, -log_probs) for _, log_probs in predictions])
        chance = chance_accuracy(variant, corpus.world)
        return [{**row, "chance": chance} for row in accuracy_by_difficulty(block, correct, nats)]


def chance_accuracy(task: Task, world: Any) -> float:
    """The task's floor of `correct`. Raises UserError if it has none."""
    floors = task.floors(world)
    if "correct" not in floors:
        raise UserError(f"the floors of {task.name} do not say what guessing scores on 'correct'; add it there")
    return floors["correct"]


def accuracy_by_difficulty(
    block: Block, correct_tokens: Bool[np.ndarray, " tokens"], nats: Float[np.ndarray, " tokens"]
) -> Rows:
    """Rows of all questions of a block and of each difficulty, from correctness and loss of every token."""
    inside = np.flatnonzero(block.labels["answer"] >= 0)
    difficulty, question = block.labels["difficulty"][inside], question_ids(block, inside)
    groups = [("all", np.ones(len(inside), bool)), *((str(d), difficulty == d) for d in np.unique(difficulty))]
    rows = []
    for name, members in groups:
        tokens = inside[members]
        _, number = np.unique(question[members], return_inverse=True)
        wrong = np.bincount(number, ~correct_tokens[tokens])
        row = {"difficulty": name, "correct": float((wrong == 0).mean())}
        row |= {"correct_tokens": float(correct_tokens[tokens].mean()), "nats": float(nats[tokens].mean())}
        rows.append(row | {"questions": len(wrong)})
    return rows


def question_ids(block: Block, tokens: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " chosen"]:
    """An id of the question to which each of these answer tokens belongs, unique within the block."""
    answer = block.labels["answer"].astype(np.int64)
    document = np.searchsorted(block.offsets, tokens, side="right") - 1
    return document * (1 + answer.max()) + answer[tokens]
