"""Questions beyond recalling one fact of bioS (Part 3.2, arXiv 2309.14402)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from synth.bio.manipulation import QUESTIONS, guess_rates, resolve_questions
from synth.bio.question_writer import QuestionWriter
from synth.errors import UserError
from synth.random.rng import bounded_integers, random_uint64
from synth.task import Block, Example
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import World


@dataclass(frozen=True)
class BioManipulate(BioQuestions):
    """Questions that take more than recalling one fact of bioS, with or without the facts as a hint.

    Example (with a hint): `<bos> Was Roberto Grace Downs born in an even month ? <hint> Answer : April . Yes . <eos>`.
    An item is one question about one person; the second person of a comparison is drawn afresh for every exposure. A
    model pretrained on BioS(questions=4, reasoning=True) has the same vocabulary.
    Source: Part 3.2 (arXiv 2309.14402), sections 2 to 5.
    Floors: exact and hint of the most likely answers, follows = 1, loss = 0 on answers, bits as BioS.
    """

    question: str = "all"
    """A question, or partial, dual, classification, ranking, subtraction, inverse, full_name or all."""
    hint: float = 0.5
    """Share of documents, where the answer is derived from facts, that state the facts before it."""
    taught: int = 0
    """Number of people of the half who are asked about; 0: all."""
    reasoning: bool = True
    """The vocabulary covers these questions; must stay on."""

    name: ClassVar[str] = "bioS-manipulate"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 3.2 (arXiv 2309.14402), sections 2 to 5"
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        names = resolve_questions(self.question)
        if not self.reasoning:
            raise UserError("bioS-manipulate: reasoning=False leaves the vocabulary without the words of its questions")
        if not 0 <= self.hint <= 1:
            raise UserError(f"bioS-manipulate: hint={self.hint} is a share of documents; give 0 to 1")
        first, count = self._half_range
        if not 0 <= self.taught <= count:
            raise UserError(f"bioS-manipulate: taught={self.taught} must be 0 (all) to {count}, the people of its half")
        if self.asked_people[1] < 2 and any(QUESTIONS[name].pair for name in names):
            raise UserError("bioS-manipulate: a comparison takes two people; raise people or taught")

    @property
    def _half_range(self) -> tuple[int, int]:
        """First person of the half, and its size."""
        middle = self.people // 2
        halves = {"all": (0, self.people), "first": (0, middle), "second": (middle, self.people - middle)}
        return halves[self.half]

    @property
    def asked_people(self) -> tuple[int, int]:
        """First person whom questions are about, and the number of such people."""
        first, count = self._half_range
        return first, self.taught or count

    @cached_property
    def question_names(self) -> tuple[str, ...]:
        """Names of the questions in use."""
        return resolve_questions(self.question)

    @cached_property
    def _question_columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each question name (Q,): position in QUESTIONS, whether about two people, whether computed."""
        questions = [QUESTIONS[name] for name in self.question_names]
        numbers = [list(QUESTIONS).index(name) for name in self.question_names]
        return np.array(numbers), np.array([q.pair for q in questions]), np.array([q.quantity != "" for q in questions])

    @cached_property
    def question_writer(self) -> QuestionWriter:
        """The writer over this vocabulary."""
        return QuestionWriter(self.lexicon, self.value_lists)

    def num_items(self, world: World) -> int:
        return len(self.question_names) * self.asked_people[1]

    def split_items(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The person (n,) and the index (n,) into `question_names` of each item."""
        return self.asked_people[0] + items // len(self.question_names), items % len(self.question_names)

    def render_block(
        self, world: World, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Questions with their answers; the prompt ends with "Answer :". Slices: person, other (-1 in a question about
        one), question, and hint, 1 if the document states the facts."""
        people, which = self.split_items(items)
        numbers, pairs, computed = (column[which] for column in self._question_columns)
        random = random_uint64((*stream, "manipulate"), epochs, items, 2)
        others = self._sample_others(people, random[:, 0])
        hinted = computed & ((random[:, 1] >> np.uint64(11)) * 2.0**-53 < self.hint)
        block = self.question_writer.write(world.names, world.values, people, others, numbers, hinted, labels)
        block = self.text_codec.encode_block(block) if self.text_codec else block
        slices = {
            "person": people,
            "other": np.where(pairs, others, -1),
            "question": np.array(self.question_names)[which],
        }
        mask = self._answer_mask(block) if self.only_answers else block.loss_mask
        return replace(block, loss_mask=mask, slices={**slices, "hint": hinted.astype(np.int64)})

    def _sample_others(self, people: np.ndarray, random: np.ndarray) -> np.ndarray:
        """Another person (n,), uniform over the others of `asked_people`."""
        first, count = self.asked_people
        return first + (people - first + 1 + bounded_integers(random, max(count - 1, 1))) % count

    def _word_ids(self, completion: np.ndarray) -> list[int]:
        """A completion as word ids, without a final <eos>."""
        ids = np.asarray(completion)
        ids = ids[:-1] if len(ids) and ids[-1] == self.vocab().eos else ids
        return (self.text_codec.decode(ids) if self.text_codec else ids).tolist()

    def score(self, world: World, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """exact: 1 if the completion is the right answer, ".", and at most <eos>. For an example with a hint also hint:
        1 if its facts are right, and follows: 1 if the answer follows from the hint, right or not.
        """
        if example is None:
            raise UserError("bioS-manipulate: an answer is judged by its question; give the index of its document")
        words, truth = self._word_ids(completion), self._word_ids(example.tokens[example.prompt_length :])
        if not example.slices["hint"]:
            return {"exact": float(words == truth)}
        (hint, answer), (facts, right) = self._split_hint(words), self._split_hint(truth)
        follows = self.question_writer.infer_answer(QUESTIONS[str(example.slices["question"])], hint)
        stop = self.lexicon.vocab.index["."]
        return {
            "exact": float(answer == right),
            "hint": float(hint == facts),
            "follows": float(follows is not None and answer == [*follows, stop]),
        }

    def true_answer(self, example: Example) -> tuple[int, ...]:
        """Word ids of the true answer, without the hint."""
        truth = self._word_ids(example.tokens[example.prompt_length :])
        return tuple(self._split_hint(truth)[1] if example.slices["hint"] else truth)

    def _split_hint(self, words: list[int]) -> tuple[list[int], list[int]]:
        """The hint of a completion, without its full stop, and the rest."""
        stop = self.lexicon.vocab.index["."]
        at = words.index(stop) if stop in words else len(words)
        return words[:at], words[at + 1 :]

    def floors(self, world: World) -> dict[str, float]:
        """exact and hint: of the most likely answer and hint to each question; follows: 1, since a wrong hint can have
        a consistent answer; loss: 0 on answers; bits: as in bioS."""
        chances = {name: guess_rates(QUESTIONS[name], self.value_lists) for name in self.question_names}
        floors = {"exact": float(np.mean([right for right, _ in chances.values()]))}
        if hints := [hint for name, (_, hint) in chances.items() if self.hint and QUESTIONS[name].facts]:
            floors |= {"hint": float(np.mean(hints)), "follows": 1.0}
        return {**floors, "loss": 0.0, "bits": self.information_content().bits}
