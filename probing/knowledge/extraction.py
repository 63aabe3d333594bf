"""Knowledge extraction from a model trained on biographies: Part 3.1 (arXiv 2309.14316), Figure 3 and Result 7.

Prompts and scores are explained in docs/knowledge.md. Layer deletion scores the same questions on the model without one
of its blocks: facts that are still answered were not stored in that block alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Int

from probing.knowledge.qa_data import QuestionSet, answer_choices, make_question_task, num_questions
from probing.scoring.metrics import grouped_interval, permute_labels_between_groups
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus, mean_length
from synth.errors import UserError
from synth.task import TrainingData

if TYPE_CHECKING:
    from lm.model import Decoder
    from probing.knowledge.qa_scoring import QAScores

Half = Literal["first", "second", "all"]
ALL_ATTRIBUTES = "all"  # value of the column `attribute` in the row over all attributes


@dataclass(frozen=True)
class Extraction:
    """Accuracy on all six questions about the people of one half, each question in a phrasing drawn for the test split.

    people: number of people of the half (None: all). half: "second" is held out of the training questions, "first" is
    the control. score_all_values: also find the most probable value of the attribute (the column `likeliest`).
    """

    people: int | None = None
    half: Half = "second"
    score_all_values: bool = field(default=True, metadata={"identity": "candidates"})

    def __post_init__(self) -> None:
        require_two_people(self.people)

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement. The search for the most probable value reads at most one token
        per value, and almost none if the model knows the answer; half a token per value is counted."""
        questions, mean = make_question_task(task, self.half), mean_length(make_question_task(task, "all"), "test")
        half = questions.people if self.half == "all" else questions.people // 2
        people = min(self.people or half, half)
        searched = sum(len(choices.values) for choices in answer_choices(questions)) / 2 if self.score_all_values else 0
        return int(people * (len(ATTRIBUTES) * mean + searched))

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """One row per attribute and one for all of them, with the columns of `extraction_rows`.

        Raises UserError for a task without people or without words for questions, and for a model with another
        vocabulary.
        """
        from probing.knowledge.qa_scoring import check_vocabulary, score_questions

        question_task = make_question_task(task, self.half)
        check_vocabulary(model, question_task)
        questions = first_questions(Corpus(question_task, data_seed, "test"), self.people)
        scores = score_questions(model, questions, self.score_all_values)
        return extraction_rows(questions, scores, seed, self.score_all_values)


@dataclass(frozen=True)
class LayerDeletion:
    """Extraction on the whole model, and on the model without each of its blocks in turn."""

    people: int | None = None
    half: Half = "second"

    def __post_init__(self) -> None:
        require_two_people(self.people)

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement. The model's depth is not known here; 5 blocks are assumed."""
        return 6 * Extraction(self.people, self.half).tokens(task)

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """The rows of Extraction with a column `without`: "nothing", "block.0", "block.1", ...

        The control is the column `shuffled`. Raises UserError as Extraction does.
        """
        from lm.inference.ablation import without_block

        extraction = Extraction(self.people, self.half)
        rows = [{"without": "nothing"} | row for row in extraction.measure(model, task, data_seed, seed)]
        for number in range(len(model.blocks)):
            with without_block(model, number):
                block_rows = extraction.measure(model, task, data_seed, seed)
            rows += [{"without": f"block.{number}"} | row for row in block_rows]
        return rows


def require_two_people(people: int | None) -> None:
    """Raise UserError for a single person: intervals come from the spread between people. None means all people."""
    if people is not None and people < 2:
        raise UserError(f"people={people} gives no interval; ask about at least 2, or None for all")


def first_questions(corpus: Corpus, people: int | None) -> QuestionSet:
    """All six questions about the first `people` people of a corpus (None: all). People are generated independently, so
    the first ones are a random sample."""
    return QuestionSet.from_corpus(corpus, np.arange(num_questions(corpus, people)))


def extraction_rows(
    questions: QuestionSet, scores: "QAScores", seed: int, score_all_values: bool = True
) -> list[dict[str, Any]]:
    """One row per attribute, and one with attribute "all" in which all questions have equal weight.

    first, exact, likeliest: share of questions whose first token is correct, whose whole answer is correct, and whose
    true value is the most probable of all values (ties are wrong), each with a 95% interval _low, _high from the spread
    between people. shuffled: how often the most probable value is the true value of another person, permuted by seed.
    nats: loss of the value, summed over its tokens. chance, first_chance, nats_chance: the scores of a model that knows
    the distribution of values and no person. majority: accuracy of the best constant answer on these questions.
    n: number of questions. persons: number of people.
    """
    truths = questions.true_values
    measures = {"first": scores.first_token_correct, "exact": scores.exact_match}
    if score_all_values:
        shuffled = permute_labels_between_groups(truths, questions.person_ids, seed)
        for measure, values in (("likeliest", truths), ("shuffled", shuffled)):
            measures[measure] = scores.likeliest_value == values
    masks = {ALL_ATTRIBUTES: np.ones(len(truths), bool)}
    masks |= {ATTRIBUTES[a]: questions.attribute_ids == a for a in np.unique(questions.attribute_ids)}
    rows = []
    for name, mask in masks.items():
        row: dict[str, Any] = {"attribute": name}
        for measure, correct in measures.items():
            row |= accuracy_with_interval(measure, correct[mask], questions.person_ids[mask])
        row |= {"nats": float(scores.value_nats[mask].mean())} | _chance_columns(questions, truths, mask)
        rows.append(row | {"n": int(mask.sum()), "persons": len(np.unique(questions.person_ids[mask]))})
    return rows


def accuracy_with_interval(
    name: str, correct: Bool[np.ndarray, " n"], people: Int[np.ndarray, " n"]
) -> Mapping[str, float]:
    """The accuracy as column `name`, with the limits of its 95% interval over people as `name`_low and `name`_high."""
    _, groups = np.unique(people, return_inverse=True)
    low, high = grouped_interval(np.bincount(groups[correct], minlength=groups.max() + 1), np.bincount(groups))
    return {name: float(correct.mean()), f"{name}_low": low, f"{name}_high": high}


def _chance_columns(
    questions: QuestionSet, truths: Int[np.ndarray, " n"], mask: Bool[np.ndarray, " n"]
) -> dict[str, float]:
    """Scores without knowledge of any person, averaged over the masked questions."""
    attributes = questions.attribute_ids[mask]
    choices = [questions.choices[a] for a in attributes]
    most_frequent = [np.bincount(truths[mask][attributes == a]).max() for a in np.unique(attributes)]
    return {
        "chance": float(np.mean([c.majority_accuracy for c in choices])),
        "first_chance": float(np.mean([c.first_token_majority_accuracy for c in choices])),
        "nats_chance": float(np.mean([c.entropy_nats for c in choices])),
        "majority": float(sum(most_frequent) / len(attributes)),
    }
