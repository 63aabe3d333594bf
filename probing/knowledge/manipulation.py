"""What a model can do with facts that it stores: Part 3.2 (arXiv 2309.14402), Figures 3, 4, 6 and 11.

People it was never asked about are asked about, every question once, and answered greedily. A hint is written by the
model itself, so it may be wrong, and the answer may follow from it or not.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from probing.scoring.metrics import proportion_interval
from synth.bio.manipulation import QUESTIONS, chance, named
from synth.corpus import mean_length
from synth.errors import UserError
from synth.mixture import parts_of
from synth.task import Block, Task
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bios import BioS

if TYPE_CHECKING:
    from lm.model import Decoder

MODES = ("hint", "direct")
MORE = 8  # tokens that a model may write beyond the longest true completion: a hint may be wrong and longer
BATCH = 512  # prompts of one question are nearly of one length


@dataclass(frozen=True)
class Manipulation:
    """people: how many of a half are asked about, each once by every question (None: all of it). hints: whether the
    facts are to be written out before an answer that is worked out; a task that taught one way only is asked that way.
    questions: a question or a group (see BioManipulate), None for those of the task. half: the second half is held
    out; the first, whose first people were taught, is the control that the teaching worked.
    """

    people: int | None = None
    hints: tuple[str, ...] = MODES
    questions: str | None = None
    half: Literal["first", "second"] = "second"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.hints or set(self.hints) - set(MODES):
            raise UserError(f"hints={self.hints} must be some of {', '.join(MODES)}")
        if self.people is not None and self.people < 1:
            raise UserError(f"people={self.people} asks about nobody; give at least 1, or None for all")
        if self.half not in ("first", "second"):
            raise UserError(f"half={self.half!r} must be first or second")
        if self.questions is not None:
            named(self.questions)

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads and writes."""
        return sum(int(self._count(asked) * mean_length(asked, "test")) for asked, _ in self._asked(task))

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each question and way of asking. question; hint: "hint", "direct", or "none" where no answer is
        worked out; accuracy of the answer, with its 95% interval low..high over the n people or pairs asked about;
        floor: the likeliest answer, for people in general; majority: the most frequent true answer, for these; ceiling:
        the best that one answer to each prompt can reach, below 1 where several people fit. After a hint also
        hint_accuracy (all of its facts are right), hint_floor, and follows (the answer is what follows from it).

        Raises UserError for a task without such questions, and for a model with another vocabulary.
        """
        rows = []
        for asked, way in self._asked(task):
            block, scores = answered(model, asked, data_seed, self._count(asked))
            floor, hint_floor = chance(QUESTIONS[asked.question], asked.lists)
            row = {"question": asked.question, "hint": way, **judged(asked, block, scores), "floor": floor}
            rows.append(row | ({"hint_floor": hint_floor} if way == "hint" else {}))
        return rows

    def _count(self, asked: BioManipulate) -> int:
        everybody = asked.span_asked[1]
        return everybody if self.people is None else min(self.people, everybody)

    def _asked(self, task: Task) -> list[tuple[BioManipulate, str]]:
        """Each question by itself, with each way of asking it. Raises UserError when there is none."""
        taught = [part for part in parts_of(task) if isinstance(part, BioManipulate)]
        if self.questions is not None:
            taught = [self._about(task, taught)]
        elif not taught:
            raise UserError(f"{task.name} teaches no question of bioS-manipulate; say which questions to ask")
        found = [
            (replace(part, question=name, half=self.half, taught=0, hint=float(way == "hint")), way)
            for part in taught
            for name in part.asked
            for way in (self._ways(part) if QUESTIONS[name].over else ["none"])
        ]
        if not found:
            raise UserError(f"hints={self.hints} is not how {task.name} was taught; give both ways")
        return found

    def _ways(self, part: BioManipulate) -> list[str]:
        """In which of the ways to ask a task taught."""
        untaught = "hint" if part.hint == 0 else "direct" if part.hint == 1 else None
        return [way for way in self.hints if way != untaught]

    def _about(self, task: Task, taught: list[BioManipulate]) -> BioManipulate:
        """The questions of this evaluation, about the people of a task, and as it taught others, if it did."""
        people = [part for part in parts_of(task) if isinstance(part, BioS)]
        if not people or not people[0].reasoning or not people[0].questions:
            raise UserError(
                f"the vocabulary of {task.name} has no words for these questions; pretrain on bioS with questions=4 "
                "and reasoning=True"
            )
        hint = taught[0].hint if taught else 0.5
        return people[0].recast(BioManipulate, half=self.half, question=str(self.questions), hint=hint)


def answered(
    model: "Decoder", asked: BioManipulate, data_seed: int, people: int
) -> tuple[Block, list[dict[str, float]]]:
    """The first so many questions of a task with their true answers, and the scores of what greedy decoding writes.

    The pairs of people do not depend on the way of asking. Raises UserError for a model with another vocabulary.
    """
    from lm.inference.sampling import generate

    vocab, world = asked.vocab(), asked.world(data_seed)
    if model.vocab_size != vocab.size:
        raise UserError(
            f"the model has {model.vocab_size} tokens and {asked.name} needs {vocab.size}; give it the fields of the "
            "biographies, which must have questions=4 and reasoning=True"
        )
    items = np.arange(people)
    stream = ("manipulation", data_seed, asked.question, asked.half)
    block = asked.render_block(world, items, np.zeros_like(items), stream, "test")
    examples = [block[i] for i in range(len(block))]
    longest = int((block.lengths - block.prompt_lengths).max()) + (MORE if asked.hint else 0)
    prompts = [example.prompt for example in examples]
    written = generate(model, prompts, longest, 0.0, vocab.eos, batch=BATCH, progress=lambda *_: None)
    return block, [asked.score(world, e, w) for e, w in zip(examples, written, strict=True)]


def judged(asked: BioManipulate, block: Block, scores: list[dict[str, float]]) -> dict[str, Any]:
    """The columns of `measure` but the floors, of questions that were all asked one way."""
    exact = np.array([score["exact"] for score in scores])
    low, high = proportion_interval(int(exact.sum()), len(exact))
    found = {"accuracy": float(exact.mean()), "low": low, "high": high, "n": len(exact), **_best(asked, block)}
    if "hint" in scores[0]:
        found["hint_accuracy"] = float(np.mean([score["hint"] for score in scores]))
        found["follows"] = float(np.mean([score["follows"] for score in scores]))
    return found


def _best(asked: BioManipulate, block: Block) -> dict[str, float]:
    """majority: the share of the most frequent answer; ceiling: the same where every prompt may have its own."""
    examples = [block[i] for i in range(len(block))]
    answers = [asked.answer(example) for example in examples]
    of_prompt: dict[bytes, Counter[tuple[int, ...]]] = {}
    for example, answer in zip(examples, answers, strict=True):
        of_prompt.setdefault(example.prompt.tobytes(), Counter())[answer] += 1
    best = sum(max(counts.values()) for counts in of_prompt.values())
    return {"majority": max(Counter(answers).values()) / len(block), "ceiling": best / len(block)}
