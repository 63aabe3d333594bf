"""Knowledge manipulation, computing with stored facts: Part 3.2 (arXiv 2309.14402), Figures 3, 4, 6 and 11.

Each question is asked once about each held-out person, and answered by greedy decoding. A hint (the facts, stated
before the answer) is written by the model itself: it may be wrong, and the answer may be consistent with it or not.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from probing.scoring.metrics import proportion_interval
from synth.bio.manipulation import QUESTIONS, guess_rates, resolve_questions
from synth.corpus import mean_length
from synth.errors import UserError
from synth.mixture import parts_of
from synth.task import Block, TrainingData
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bios import BioS

if TYPE_CHECKING:
    from lm.model import Decoder

MODES = ("hint", "direct")
EXTRA_TOKENS = 8  # allowed beyond the longest true completion, because a wrong hint may be longer


@dataclass(frozen=True)
class Manipulation:
    """Accuracy on manipulation questions.

    people: number of people of the half (None: all). hint_modes: whether computed answers follow a hint ("hint") or
    not ("direct"); a task that trained one mode only is tested in that mode. questions: a question or a group (see
    BioManipulate), None for those of the task. half: "second" is held out of the training questions; "first" is the
    control, whose people the training questions were about.
    """

    people: int | None = None
    hint_modes: tuple[str, ...] = field(default=MODES, metadata={"identity": "hints"})
    questions: str | None = None
    half: Literal["first", "second"] = "second"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.hint_modes or set(self.hint_modes) - set(MODES):
            raise UserError(f"hint_modes={self.hint_modes} must be some of {', '.join(MODES)}")
        if self.people is not None and self.people < 1:
            raise UserError(f"people={self.people} asks about nobody; give at least 1, or None for all")
        if self.half not in ("first", "second"):
            raise UserError(f"half={self.half!r} must be first or second")
        if self.questions is not None:
            resolve_questions(self.questions)

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement."""
        return sum(int(self._count(variant) * mean_length(variant, "test")) for variant, _ in self._task_variants(task))

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """One row per question and hint mode. hint: "hint", "direct", or "none" if the answer needs no computation.
        accuracy, with its 95% interval low..high, over n people or pairs of people. floor: accuracy of the most
        probable answer for random people. majority: of the most frequent true answer among these. ceiling: of the best
        constant answer per prompt, below 1 where several people fit a prompt. With a hint also hint_accuracy (all of
        its facts are correct), hint_floor, and follows (the answer is consistent with the hint).

        Raises UserError for a task without such questions, and for a model with another vocabulary.
        """
        rows = []
        for variant, mode in self._task_variants(task):
            block, scores = generate_and_score(model, variant, data_seed, self._count(variant))
            floor, hint_floor = guess_rates(QUESTIONS[variant.question], variant.value_lists)
            row = {"question": variant.question, "hint": mode, **grade_answers(variant, block, scores), "floor": floor}
            rows.append(row | ({"hint_floor": hint_floor} if mode == "hint" else {}))
        return rows

    def _count(self, variant: BioManipulate) -> int:
        available = variant.asked_people[1]
        return available if self.people is None else min(self.people, available)

    def _task_variants(self, task: TrainingData) -> list[tuple[BioManipulate, str]]:
        """A task for each single question and mode, with the mode. Raises UserError if there is none."""
        trained = [part for part in parts_of(task) if isinstance(part, BioManipulate)]
        if self.questions is not None:
            trained = [self._question_task(task, trained)]
        elif not trained:
            raise UserError(f"{task.name} teaches no question of bioS-manipulate; say which questions to ask")
        variants = [
            (replace(part, question=name, half=self.half, taught=0, hint=float(mode == "hint")), mode)
            for part in trained
            for name in part.question_names
            for mode in (self._modes_for(part) if QUESTIONS[name].quantity else ["none"])
        ]
        if not variants:
            raise UserError(f"hint_modes={self.hint_modes} is not how {task.name} was trained; give both")
        return variants

    def _modes_for(self, part: BioManipulate) -> list[str]:
        """The hint modes that a task was trained in."""
        untrained = "hint" if part.hint == 0 else "direct" if part.hint == 1 else None
        return [mode for mode in self.hint_modes if mode != untrained]

    def _question_task(self, task: TrainingData, trained: list[BioManipulate]) -> BioManipulate:
        """`questions` about the people of a task, in the hint modes of the questions it trained, if there are any."""
        people = [part for part in parts_of(task) if isinstance(part, BioS)]
        if not people or not people[0].reasoning or not people[0].questions:
            raise UserError(
                f"the vocabulary of {task.name} has no words for these questions; pretrain on bioS with questions=4 "
                "and reasoning=True"
            )
        hint = trained[0].hint if trained else 0.5
        return people[0].as_task(BioManipulate, half=self.half, question=str(self.questions), hint=hint)


def generate_and_score(
    model: "Decoder", task: BioManipulate, data_seed: int, num_questions: int
) -> tuple[Block, list[dict[str, float]]]:
    """The first questions of a task with their true answers, and the scores of greedy completions.

    The pairs of people do not depend on the hint mode. Raises UserError for a model with another vocabulary.
    """
    from probing.knowledge.qa_scoring import check_vocabulary, greedy_completions

    check_vocabulary(model, task)
    world = task.world(data_seed)
    items = np.arange(num_questions)
    stream = ("manipulation", data_seed, task.question, task.half)
    block = task.render_block(world, items, np.zeros_like(items), stream, "test")
    examples = [block[i] for i in range(len(block))]
    longest = int((block.lengths - block.prompt_lengths).max()) + (EXTRA_TOKENS if task.hint else 0)
    completions = greedy_completions(model, [example.prompt for example in examples], longest, task.vocab().eos)
    return block, [task.score(world, e, c) for e, c in zip(examples, completions, strict=True)]


def grade_answers(task: BioManipulate, block: Block, scores: list[dict[str, float]]) -> dict[str, Any]:
    """The columns of `Manipulation.measure` except the floors, for the questions of one task."""
    exact = np.array([score["exact"] for score in scores])
    low, high = proportion_interval(int(exact.sum()), len(exact))
    row: dict[str, Any] = {"accuracy": float(exact.mean()), "low": low, "high": high, "n": len(exact)}
    row |= _constant_answer_accuracy(task, block)
    if "hint" in scores[0]:
        row["hint_accuracy"] = float(np.mean([score["hint"] for score in scores]))
        row["follows"] = float(np.mean([score["follows"] for score in scores]))
    return row


def _constant_answer_accuracy(task: BioManipulate, block: Block) -> dict[str, float]:
    """majority: share of the most frequent answer; ceiling: of the most frequent answer to each prompt."""
    examples = [block[i] for i in range(len(block))]
    answers = [task.true_answer(example) for example in examples]
    by_prompt: dict[bytes, Counter[tuple[int, ...]]] = {}
    for example, answer in zip(examples, answers, strict=True):
        by_prompt.setdefault(example.prompt.tobytes(), Counter())[answer] += 1
    best = sum(max(counts.values()) for counts in by_prompt.values())
    return {"majority": max(Counter(answers).values()) / len(block), "ceiling": best / len(block)}
