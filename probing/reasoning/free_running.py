"""Does a model solve problems it is given? It writes an answer, and the task's own verifier judges it (Part 4.1, arXiv
2512.17351, appendix A): right or wrong as a whole, any right answer accepted, on problems of the largest size.

Where an answer is one of many (Brevo), nothing else will do: the argmax at each place of the drawn answer says little.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lm.inference.sampling import generate
from lm.model import Decoder
from probing.grammar.validity import silent
from probing.scoring.metrics import proportion_interval
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import Block, Task

ALL = "all"


@dataclass(frozen=True)
class Solved:
    """documents: test problems; temperature: 0 for the most likely token at every step, else sampled (the paper does
    not say which it did); hardest: problems of the largest size only, as the paper tests, or of all sizes.

    Of a document with several questions the last is asked, after the true answers to the others.
    """

    documents: int = 200
    temperature: float = 0.0
    hardest: bool = True

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.documents < 1 or self.temperature < 0:
            raise UserError(f"{self}: documents must be at least 1 and temperature 0 or more")

    def tested(self, task: Task) -> Any:
        """The task that the problems are drawn from. Raises UserError when it has no hardest form."""
        if self.hardest and not hasattr(task, "hardest"):
            raise UserError(f"{task.name} has no hardest form; give hardest=False")
        return task.hardest() if self.hardest else task  # type: ignore[attr-defined]

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads and writes."""
        return int(self.documents * mean_length(self.tested(task), "test"))

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> list[dict[str, Any]]:
        """A row for all problems (difficulty "all") and one for each difficulty, if the task labels it, as text.

        correct: the share solved, with its exact 95% interval low..high; exact: the share answered as the document is,
        token by token; unfinished: without <eos>, where documents end with it; chance: what a guess scores on all
        problems together; questions: how many. Raises UserError when the task has no score "correct", or when a
        problem and its answer are longer than the model's context.
        """
        tested = self.tested(task)
        corpus = Corpus(tested, data_seed, "test")
        floors = tested.floors(corpus.world)
        if "correct" not in floors:
            raise UserError(f"{task.name} is not a task of problems with right answers; it scores {', '.join(floors)}")
        block = corpus.documents(0, self.documents, labels=True)
        answers = self._answers(model, block, corpus.vocab.eos, seed)
        found = np.array([_judged(tested, corpus, block, i, answer) for i, answer in enumerate(answers)])
        groups = {ALL: np.ones(len(found), bool)} | _difficulties(block)
        return [_row(name, found[among], floors["correct"]) for name, among in groups.items()]

    def _answers(self, model: Decoder, block: Block, eos: int, seed: int) -> list[np.ndarray]:
        """What the model writes after each prompt. An answer that no <eos> ends is as long as the true one."""
        lengths = block.lengths - block.prompt_lengths
        room = int(lengths.max())
        check_context(model, int(block.prompt_lengths.max()) + room - 1)
        prompts = [block[i].prompt for i in range(len(block))]
        written = generate(model, prompts, room, self.temperature, eos, seed, progress=silent)
        ended = block.tokens[block.offsets[1:] - 1] == eos
        return [text if end else text[:length] for text, end, length in zip(written, ended, lengths, strict=True)]


def check_context(model: Decoder, length: int) -> None:
    """Raise UserError when problems and answers of `length` tokens do not fit the model's context."""
    if length > model.config.context:
        raise UserError(
            f"problems and answers of up to {length} tokens do not fit the model's context={model.config.context}; "
            f"build the model with context={length}, or make the problems smaller"
        )


def _judged(task: Task, corpus: Corpus, block: Block, i: int, answer: np.ndarray) -> tuple[bool, bool, bool]:
    """Whether answer i is correct, exactly the document's, and unfinished."""
    example, eos = block[i], corpus.vocab.eos
    truth = example.tokens[example.prompt_length :]
    correct = task.score(corpus.world, example, answer)["correct"] == 1
    unfinished = bool(truth[-1] == eos and eos not in answer)
    return correct, np.array_equal(answer, truth), unfinished


def _difficulties(block: Block) -> dict[str, np.ndarray]:
    """Which problems (n,) have which difficulty: that of the first token that is to be written."""
    if "difficulty" not in block.labels:
        return {}
    values = block.labels["difficulty"][block.offsets[:-1] + block.prompt_lengths]
    return {str(value): values == value for value in np.unique(values)}


def _row(difficulty: str, found: np.ndarray, chance: float) -> dict[str, Any]:
    correct, exact, unfinished = found.mean(axis=0)
    low, high = proportion_interval(int(found[:, 0].sum()), len(found))
    return {
        "difficulty": difficulty, "correct": float(correct), "low": low, "high": high, "exact": float(exact),
        "unfinished": float(unfinished), "chance": chance, "questions": len(found),
    }  # fmt: skip
