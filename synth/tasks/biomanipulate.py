"""Questions that take more than recalling one fact of bioS (Part 3.2, arXiv 2309.14402): a part of a fact, two facts,
classification, comparison, subtraction, and inverse search, with or without the facts written out first."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from synth.bio.manipulation import QUESTIONS, chance, named
from synth.bio.question_writer import Asker
from synth.errors import UserError
from synth.random.rng import below, words
from synth.task import Block, Example
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import World


@dataclass(frozen=True)
class BioManipulate(BioQuestions):
    """The fields of BioQuestions; a model pretrained on BioS(questions=4, reasoning=True) has its vocabulary.

    An item is one question about one person; where it takes two, the other is drawn anew for every exposure.
    question: which one, or a group: partial, dual, classification, ranking, subtraction, inverse, full_name (what
    inverse asks for beside first names), all. half: whom it is about; taught: the first so many of them (0: all).
    hint: the share of documents that write the facts out before an answer that is worked out, as the control token
    of the prompt says; 1 and 0 ask every question one way.
    """

    question: str = "all"
    hint: float = 0.5
    taught: int = 0
    reasoning: bool = True

    name: ClassVar[str] = "bioS-manipulate"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.2 (arXiv 2309.14402), sections 2 to 5"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = named(self.question)
        if not self.reasoning:
            raise UserError("bioS-manipulate: reasoning=False leaves the vocabulary without the words of its questions")
        if not 0 <= self.hint <= 1:
            raise UserError(f"bioS-manipulate: hint={self.hint} is a share of documents; give 0 to 1")
        first, count = self._half
        if not 0 <= self.taught <= count:
            raise UserError(f"bioS-manipulate: taught={self.taught} must be 0 (all) to {count}, the people of its half")
        if self.span_asked[1] < 2 and any(QUESTIONS[name].pair for name in asked):
            raise UserError("bioS-manipulate: a comparison takes two people; raise people or taught")

    @property
    def _half(self) -> tuple[int, int]:
        """The first person of the half, and how many it has."""
        middle = self.people // 2
        halves = {"all": (0, self.people), "first": (0, middle), "second": (middle, self.people - middle)}
        return halves[self.half]

    @property
    def span_asked(self) -> tuple[int, int]:
        """The first person asked about, and how many are."""
        first, count = self._half
        return first, self.taught or count

    @cached_property
    def asked(self) -> tuple[str, ...]:
        """The names of the questions."""
        return named(self.question)

    @cached_property
    def _kinds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each of `asked`: its number in QUESTIONS, whether it is about two people, and worked out."""
        questions = [QUESTIONS[name] for name in self.asked]
        numbers = [list(QUESTIONS).index(name) for name in self.asked]
        return np.array(numbers), np.array([q.pair for q in questions]), np.array([q.over != "" for q in questions])

    @cached_property
    def asker(self) -> Asker:
        return Asker(self.kit, self.lists)

    def items(self, world: World) -> int:
        return len(self.asked) * self.span_asked[1]

    def who_and_what(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The person and the number, in `asked`, of the question (n,) of each item."""
        return self.span_asked[0] + items // len(self.asked), items % len(self.asked)

    def render_block(
        self, world: World, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Questions with their answers, end to end; the prompt is everything up to "Answer :". Slices: person, other
        (-1 in a question about one), question, and hint, 1 where the facts are written out."""
        people, which = self.who_and_what(items)
        numbers, pairs, worked_out = (column[which] for column in self._kinds)
        random = words((*stream, "manipulate"), epochs, items, 2)
        others = self._others(people, random[:, 0])
        hinted = worked_out & ((random[:, 1] >> np.uint64(11)) * 2.0**-53 < self.hint)
        block = self.asker.write(world.names, world.values, people, others, numbers, hinted, labels)
        block = self.speller.block(block) if self.speller else block
        slices = {"person": people, "other": np.where(pairs, others, -1), "question": np.array(self.asked)[which]}
        mask = self._answers(block) if self.only_answers else block.loss_mask
        return replace(block, loss_mask=mask, slices={**slices, "hint": hinted.astype(np.int64)})

    def _others(self, people: np.ndarray, random: np.ndarray) -> np.ndarray:
        """Somebody else (n,) of those asked about, all alike likely."""
        first, count = self.span_asked
        return first + (people - first + 1 + below(random, max(count - 1, 1))) % count

    def _words(self, completion: np.ndarray) -> list[int]:
        """A completion as ids of words, without the <eos> that may end it."""
        said = np.asarray(completion)
        said = said[:-1] if len(said) and said[-1] == self.vocab().eos else said
        return (self.speller.decode(said) if self.speller else said).tolist()

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """exact: 1 when the answer is right and ".", then nothing or <eos> come after it. With a hint before it also
        hint: all of its facts are right, and follows: the answer is what follows from it, be the facts right or not.
        """
        if example is None:
            raise UserError("bioS-manipulate: an answer is judged by its question; give the index of its document")
        said, truth = self._words(completion), self._words(example.tokens[example.prompt_length :])
        if not example.slices["hint"]:
            return {"exact": float(said == truth)}
        (hint, answer), (facts, right) = self._cut(said), self._cut(truth)
        follows = self.asker.concluded(QUESTIONS[str(example.slices["question"])], hint)
        stop = self.kit.vocab.index["."]
        return {
            "exact": float(answer == right),
            "hint": float(hint == facts),
            "follows": float(follows is not None and answer == [*follows, stop]),
        }

    def answer(self, example: Example) -> tuple[int, ...]:
        """The ids of the words of the true answer, without the hint."""
        truth = self._words(example.tokens[example.prompt_length :])
        return tuple(self._cut(truth)[1] if example.slices["hint"] else truth)

    def _cut(self, said: list[int]) -> tuple[list[int], list[int]]:
        """A completion's hint, without its full stop, and what comes after it."""
        stop = self.kit.vocab.index["."]
        at = said.index(stop) if stop in said else len(said)
        return said[:at], said[at + 1 :]

    def floors(self, world: World) -> dict[str, float]:
        """exact and hint: what the likeliest answer and hint to each question score; follows: 1, for who knows nobody
        can be consistent; loss: 0 on answers; bits: as in bioS."""
        chances = {name: chance(QUESTIONS[name], self.lists) for name in self.asked}
        found = {"exact": float(np.mean([right for right, _ in chances.values()]))}
        if hints := [hint for name, (_, hint) in chances.items() if self.hint and QUESTIONS[name].facts]:
            found |= {"hint": float(np.mean(hints)), "follows": 1.0}
        return {**found, "loss": 0.0, "bits": self.facts().bits}
