"""Comparison of the routed system with its model alone (claim 3.13 of the ledger), and accuracy of the router.

The questions of probing/routed_qa/eval_questions.py about held-out people are put to the system in English, and to the
model in the formats that it was trained on (Part 3.1, arXiv 2309.14316; Part 3.2, arXiv 2309.14402).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probing.knowledge.extraction import ALL_ATTRIBUTES, Half, accuracy_with_interval, require_two_people
from probing.knowledge.qa_data import make_question_task
from probing.routed_qa.database import FACT_COLUMNS
from probing.routed_qa.eval_questions import KINDS, EvalQuestion, EvalSet
from probing.routed_qa.router import WAYS
from probing.routed_qa.system import Answer, FactQuery, KnowledgeSystem, split_sentences
from probing.scoring.metrics import proportion_interval
from synth.corpus import mean_length
from synth.task import TrainingData

if TYPE_CHECKING:
    from lm.model import Decoder

SYSTEM, BARE = "system", "bare model"
EXTRA_TOKENS = 8  # allowed beyond the longest pair of facts


@dataclass(frozen=True)
class SystemComparison:
    """Accuracy of KnowledgeSystem and of its model alone.

    people: number of people of the half, about each of whom every question is asked (None: all). half: as in
    Extraction.
    """

    people: int | None = 200
    half: Half = "second"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        require_two_people(self.people)

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement: for each question the question itself and one query for a
        fact."""
        question_task = make_question_task(task, self.half)
        first, stop = question_task.people_range
        people = min(self.people or question_task.people, stop - first)
        questions = 6 + sum(map(len, KINDS.values()))
        return int(2 * people * questions * mean_length(question_task, "test"))

    def measure(self, model: "Decoder", task: TrainingData, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """One row per kind, question (and "all" of a kind) and respondent (who): "system", or "bare model" for the
        questions that it can be asked.

        accuracy: share of correct answers, with a 95% interval over people. An inverse question is answered correctly
        by one or more names of people who all have the facts, an unanswerable one by saying so. extracted: share of
        questions for which the required facts are known: to the database (inverse questions to the system: all facts of
        the person), or to the model if it is asked for each by itself. given, given_n: accuracy on those, and their
        number. n: number of questions. For the system also the router's confusion: way, the correct way; routed, the
        share of questions sent there; routed_model, routed_database, routed_steps, routed_none, the numbers sent each
        way.

        Raises UserError as KnowledgeSystem does, and for a vocabulary without the words of Part 3.2.
        """
        eval_set = EvalSet(task, data_seed, self.half, self.people)
        system, questions = KnowledgeSystem(model, task, data_seed), list(eval_set.generate_questions())
        answers = system.answers([question.text for question in questions])
        in_model = _model_knows_facts(system, eval_set, questions)
        in_database = {person: _database_knows_person(system, eval_set, person) for person in eval_set.people}
        known = [in_database[q.person] if q.kind == "inverse" else in_model[i] for i, q in enumerate(questions)]
        texts = [answer.text if answer.is_answered else None for answer in answers]
        correct = [_is_correct(question, text) for question, text in zip(questions, texts, strict=True)]
        rows = [row | _confusion(group, answers) for group, row in _group_rows(SYSTEM, questions, correct, known)]
        with_prompt = [i for i, question in enumerate(questions) if question.prompt is not None]
        bare_questions = [questions[i] for i in with_prompt]
        bare_texts = _bare_model_answers(system, bare_questions)
        correct = [_is_correct(question, text) for question, text in zip(bare_questions, bare_texts, strict=True)]
        bare_rows = _group_rows(BARE, bare_questions, correct, [in_model[i] for i in with_prompt])
        return rows + [row for _, row in bare_rows]


# ---- answers ---------------------------------------------------------------------------------------------------
def _bare_model_answers(system: KnowledgeSystem, questions: Sequence[EvalQuestion]) -> list[str | None]:
    """The model's own answers; None if a completion has no full stop after the hint."""
    from probing.knowledge.qa_scoring import greedy_completions

    people, max_new_tokens = system.people, 2 * system.max_new_tokens + EXTRA_TOKENS
    prompts = [question.prompt for question in questions if question.prompt is not None]
    completions = greedy_completions(system.model, prompts, max_new_tokens, people.vocab().eos)
    sentences = [split_sentences(people, ids)[int(q.hinted) :] for ids, q in zip(completions, questions, strict=True)]
    return [answer[0] if answer else None for answer in sentences]


def _is_correct(question: EvalQuestion, text: str | None) -> bool:
    """Whether an answer is correct; None: no answer was given."""
    if text is None or not question.correct_answers:
        return text is None and not question.correct_answers
    parts = text.split("; ") if question.way == "database" else [text]
    return all(part in question.correct_answers for part in parts)


def _model_knows_facts(system: KnowledgeSystem, eval_set: EvalSet, questions: Sequence[EvalQuestion]) -> list[bool]:
    """For each question, whether the model answers correctly when asked for each required fact by itself."""
    needs = [(i, person, fact) for i, question in enumerate(questions) for person, fact in question.required_facts]
    queries = [FactQuery(eval_set.name(person), FACT_COLUMNS.index(fact)) for _, person, fact in needs]
    known = [True] * len(questions)
    for (i, person, fact), value in zip(needs, system.query_model(queries), strict=True):
        known[i] &= value == eval_set.true_value(person, fact)
    return known


def _database_knows_person(system: KnowledgeSystem, eval_set: EvalSet, person: int) -> bool:
    """Whether all facts of a person in the database are correct."""
    truth = tuple(eval_set.true_value(person, fact) for fact in FACT_COLUMNS)
    return system.database.facts(eval_set.name(person).split()) == truth


# ---- rows ------------------------------------------------------------------------------------------------------
def _group_rows(
    who: str, questions: Sequence[EvalQuestion], correct: Sequence[bool], known: Sequence[bool]
) -> list[tuple[dict[int, EvalQuestion], dict[str, Any]]]:
    """For each kind and question its group of `questions`, by index, and its row."""
    groups: dict[tuple[str, str], dict[int, EvalQuestion]] = defaultdict(dict)
    for i, q in enumerate(questions):
        groups[q.kind, ALL_ATTRIBUTES][i] = groups[q.kind, q.question][i] = q
    rows = []
    for (kind, question), group in groups.items():
        indices = list(group)
        hits, facts = np.array(correct)[indices], np.array(known)[indices]
        row = {"kind": kind, "question": question, "who": who, "n": len(indices)}
        row |= _accuracy(hits, np.array([q.person for q in group.values()]))
        row |= {"extracted": float(facts.mean()), "given_n": int(facts.sum())}
        rows.append((group, row | {"given": float(hits[facts].mean()) if facts.any() else float("nan")}))
    return rows


def _accuracy(hits: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """Accuracy with its interval over people; if all hits are equal, and so without spread, the binomial interval with
    one trial per person."""
    row = dict(accuracy_with_interval("accuracy", hits, people))
    if hits.all() or not hits.any():
        n = len(np.unique(people))
        row["accuracy_low"], row["accuracy_high"] = proportion_interval(n * int(hits.all()), n)
    return row


def _confusion(group: dict[int, EvalQuestion], answers: Sequence[Answer]) -> dict[str, Any]:
    """Where the router sent the questions of a group."""
    taken, ways = [answers[i].way for i in group], {question.way for question in group.values()}
    row: dict[str, Any] = {"way": ways.pop() if len(ways) == 1 else "several"}
    row["routed"] = float(np.mean([way == q.way for way, q in zip(taken, group.values(), strict=True)]))
    return row | {f"routed_{way}": taken.count(way) for way in WAYS}
