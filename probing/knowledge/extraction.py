"""What a model that has read biographies answers when it is asked: Part 3.1 (arXiv 2309.14316), Figure 3 and Result 7.

How it is asked and judged: docs/knowledge.md. Layer deletion asks the same of a model without one of its blocks: what
is still answered then was not kept in that block alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Int

from probing.knowledge.qa_data import Questions, choices, questions_of
from probing.scoring.metrics import exchanged, grouped_interval
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import Task

if TYPE_CHECKING:
    from lm.model import Decoder
    from probing.knowledge.qa_scoring import Answers

Half = Literal["first", "second", "all"]
EVERY = "all"  # the row of all attributes together


@dataclass(frozen=True)
class Extraction:
    """All six questions about people of one half, each in a phrasing drawn for the test split.

    people: how many of the half are asked about (None: all); half: "second" are held out of the questions in training,
    "first" is the control, whose questions may have been trained on; candidates: also find the likeliest value.
    """

    people: int | None = None
    half: Half = "second"
    candidates: bool = True

    def __post_init__(self) -> None:
        check_people(self.people)

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads; the search for the likeliest value takes one for every value at
        most, and for a model that knows the answer next to none: it is counted as half."""
        asked, mean = questions_of(task, self.half), mean_length(questions_of(task, "all"), "test")
        half = asked.people if self.half == "all" else asked.people // 2
        people = min(self.people or half, half)
        searched = sum(len(found.values) for found in choices(asked)) / 2 if self.candidates else 0
        return int(people * (len(ATTRIBUTES) * mean + searched))

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each attribute and one for all of them, with the columns of `tallied`.

        Raises UserError for a task without people to ask about or without words for questions, and for a model with
        another vocabulary.
        """
        from probing.knowledge.qa_scoring import ask, check_model

        asked = questions_of(task, self.half)
        check_model(model, asked)
        questions = drawn(Corpus(asked, data_seed, "test"), self.people)
        return tallied(questions, ask(model, questions, self.candidates), seed, self.candidates)


@dataclass(frozen=True)
class LayerDeletion:
    """The questions of Extraction, put to the whole model and to the model without each of its blocks."""

    people: int | None = None
    half: Half = "second"

    def __post_init__(self) -> None:
        check_people(self.people)

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement of a model of five blocks reads: how many there will be is not known."""
        return 6 * Extraction(self.people, self.half).tokens(task)

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """The rows of Extraction with a column `without`: "nothing", "block.0", "block.1" and so on. The control is the
        column `shuffled`. Raises UserError as Extraction does."""
        from lm.inference.ablation import without_block

        extraction = Extraction(self.people, self.half)
        rows = [{"without": "nothing"} | row for row in extraction.measure(model, task, data_seed, seed)]
        for number in range(len(model.blocks)):
            with without_block(model, number):
                found = extraction.measure(model, task, data_seed, seed)
            rows += [{"without": f"block.{number}"} | row for row in found]
        return rows


def check_people(people: int | None) -> None:
    """Raise UserError unless there are people to compare."""
    if people is not None and people < 2:
        raise UserError(f"people={people} gives no interval; ask about at least 2, or None for all")


def drawn(corpus: Corpus, people: int | None) -> Questions:
    """All six questions about the first `people` of a half: people are alike, so the first are as good as any."""
    assert corpus.items is not None
    asked = min(corpus.items, len(ATTRIBUTES) * people) if people else corpus.items
    return Questions.of(corpus, np.arange(asked))


def tallied(questions: Questions, answers: "Answers", seed: int, candidates: bool = True) -> list[dict[str, Any]]:
    """A row for each attribute, and one of attribute "all" in which all questions count alike.

    first, exact, likeliest: the share of questions whose first token is right, whose whole answer is, whose true value
    is the likeliest of all values (ties are wrong); each with its 95% interval _low, _high from the spread between
    people. shuffled: how often the likeliest value is the true one of somebody else, drawn by seed. nats: loss of the
    value, summed over its tokens. Beside them chance, first_chance, nats_chance: who knows the lists and nobody;
    majority: the best that one answer to all could reach here; n questions about so many persons.
    """
    truths = questions.truths
    measures = {"first": answers.first, "exact": answers.exact}
    if candidates:
        measures |= {"likeliest": answers.likeliest == truths}
        measures |= {"shuffled": answers.likeliest == exchanged(truths, questions.people, seed)}
    rows = []
    for name, among in [(EVERY, np.ones(len(truths), bool)), *_by_attribute(questions)]:
        row: dict[str, Any] = {"attribute": name}
        for measure, right in measures.items():
            row |= share(measure, right[among], questions.people[among])
        row |= {"nats": float(answers.nats[among].mean())} | _floors(questions, truths, among)
        rows.append(row | {"n": int(among.sum()), "persons": len(np.unique(questions.people[among]))})
    return rows


def _by_attribute(questions: Questions) -> list[tuple[str, Bool[np.ndarray, " n"]]]:
    return [(name, questions.about == a) for a, name in enumerate(ATTRIBUTES) if (questions.about == a).any()]


def share(name: str, right: Bool[np.ndarray, " n"], people: Int[np.ndarray, " n"]) -> Mapping[str, float]:
    """The share of right answers under this name, with the limits of its interval over people."""
    _, numbers = np.unique(people, return_inverse=True)
    low, high = grouped_interval(np.bincount(numbers[right], minlength=numbers.max() + 1), np.bincount(numbers))
    return {name: float(right.mean()), f"{name}_low": low, f"{name}_high": high}


def _floors(questions: Questions, truths: Int[np.ndarray, " n"], among: Bool[np.ndarray, " n"]) -> dict[str, float]:
    """What needs to know nobody, averaged over the questions."""
    about = questions.about[among]
    most = [np.bincount(truths[among][about == a]).max() for a in np.unique(about)]
    floors = {"chance": "chance", "first_chance": "first_chance", "nats_chance": "nats"}
    found = {name: float(np.mean([getattr(questions.choices[a], of) for a in about])) for name, of in floors.items()}
    return found | {"majority": float(sum(most) / len(about))}
