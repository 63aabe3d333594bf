"""Share of problems a model solves: it generates an answer, and the task's verifier grades it as a whole, accepting any
correct answer (Part 4.1, arXiv 2512.17351, appendix A; problems of the largest size).

Needed where a problem has several correct answers (Brevo): teacher-forced accuracy knows only the document's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lm.inference.sampling import generate, no_progress
from lm.model import Decoder
from probing.scoring.metrics import proportion_interval
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import Block, Task

ALL = "all"


@dataclass(frozen=True)
class SolveRate:
    """documents: number of test problems. temperature: 0 for greedy decoding (the paper does not say). hardest: only
    problems of the largest size, as in the paper, instead of all sizes.

    In a document with several questions the last is answered, after the true answers to the others.
    """

    identity_name = "Solved"

    documents: int = 200
    temperature: float = 0.0
    hardest: bool = True

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.documents < 1 or self.temperature < 0:
            raise UserError(f"{self}: documents must be at least 1 and temperature 0 or more")

    def tokens(self, task: Task) -> int:
        """Estimated number of tokens read and generated, for the cost of a dry run."""
        return int(self.documents * mean_length(evaluated_task(task, self.hardest), "test"))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> list[dict[str, Any]]:
        """A row for all problems (difficulty "all") and, if the task labels it, one for each difficulty.

        correct: share solved, with its exact 95% interval low..high; exact: share answered token by token as in the
        document; unfinished: share without <eos>, where documents end with it; chance: score of guessing on all
        problems; questions: number of problems. Raises UserError if the task has no score "correct", or if problems
        and answers do not fit the model's context.
        """
        variant = evaluated_task(task, self.hardest)
        corpus = Corpus(variant, data_seed, "test")
        floors = variant.floors(corpus.world)
        if "correct" not in floors:
            raise UserError(f"{task.name} is not a task of problems with right answers; it scores {', '.join(floors)}")
        block = corpus.documents(0, self.documents, labels=True)
        answers = self._generate_answers(model, block, corpus.vocab.eos, seed)
        grades = np.array([_grade_answer(variant, corpus, block, i, answer) for i, answer in enumerate(answers)])
        groups = {ALL: np.ones(len(grades), bool)} | _difficulties(block)
        return [_row(name, grades[rows], floors["correct"]) for name, rows in groups.items()]

    def _generate_answers(self, model: Decoder, block: Block, eos: int, seed: int) -> list[np.ndarray]:
        """Generate an answer to each prompt. Without <eos> in documents, cut them to the length of the true ones."""
        lengths = block.lengths - block.prompt_lengths
        max_new_tokens = int(lengths.max())
        check_context(model, int(block.prompt_lengths.max()) + max_new_tokens - 1)
        prompts = [block[i].prompt for i in range(len(block))]
        answers = generate(model, prompts, max_new_tokens, self.temperature, eos, seed, progress=no_progress)
        ended = block.tokens[block.offsets[1:] - 1] == eos
        return [text if end else text[:length] for text, end, length in zip(answers, ended, lengths, strict=True)]


def evaluated_task(task: Task, hardest: bool) -> Task:
    """The task, or its variant of the largest size. Raises UserError if it has none."""
    if not hardest:
        return task
    if not hasattr(task, "hardest"):
        raise UserError(f"{task.name} has no hardest(); set hardest=False to evaluate on the sizes of training")
    return task.hardest()


def check_context(model: Decoder, length: int) -> None:
    """Raise UserError if problems and answers of `length` tokens do not fit the model's context."""
    if length > model.config.max_seq_len:
        raise UserError(
            f"problems and answers of up to {length} tokens do not fit max_seq_len={model.config.max_seq_len}; "
            f"build the model with max_seq_len={length}, or make the problems smaller"
        )


def _grade_answer(task: Task, corpus: Corpus, block: Block, i: int, answer: np.ndarray) -> tuple[bool, bool, bool]:
    """Whether answer i is correct, equal to the document's, and unfinished."""
    example, eos = block[i], corpus.vocab.eos
    truth = example.tokens[example.prompt_length :]
    correct = task.score(corpus.world, example, answer)["correct"] == 1
    unfinished = bool(truth[-1] == eos and eos not in answer)
    return correct, np.array_equal(answer, truth), unfinished


def _difficulties(block: Block) -> dict[str, np.ndarray]:
    """Mask of problems (n,) for each difficulty, which is labelled at the first token of the answer."""
    if "difficulty" not in block.labels:
        return {}
    values = block.labels["difficulty"][block.offsets[:-1] + block.prompt_lengths]
    return {str(value): values == value for value in np.unique(values)}


def _row(difficulty: str, grades: np.ndarray, chance: float) -> dict[str, Any]:
    correct, exact, unfinished = grades.mean(axis=0)
    low, high = proportion_interval(int(grades[:, 0].sum()), len(grades))
    return {
        "difficulty": difficulty, "correct": float(correct), "low": low, "high": high, "exact": float(exact),
        "unfinished": float(unfinished), "chance": chance, "questions": len(grades),
    }  # fmt: skip
