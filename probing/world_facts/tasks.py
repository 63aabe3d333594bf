"""The four tasks of Part 3.2 (arXiv 2309.14402) on real-world facts instead of synthetic people: retrieval,
classification and comparison (section 4), inverse search (section 5).

Prompts are two-shot, with examples about other subjects, so that models without instruction tuning can be tested.
Classification and comparison have two modes: Yes or No at once, and with the facts stated before.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from probing.world_facts.facts import RELATIONS, Relation, WorldFact, facts_of, subject_candidates, value_candidates
from probing.world_facts.grading import Grade, grade_response
from synth.random.rng import rng

RETRIEVAL, CLASSIFICATION, COMPARISON, INVERSE = TASKS = ("retrieval", "classification", "comparison", "inverse search")
YES_NO_TASKS = (CLASSIFICATION, COMPARISON)
AT_ONCE, STEPS = " Answer Yes or No.", " First state the facts that this needs, then answer Yes or No."
SHOTS = 2


@dataclass(frozen=True)
class WorldQuestion:
    """A question with its few-shot examples.

    task: one of TASKS. with_steps: whether the facts are to be stated first. facts: those that the answer follows from.
    text, truth: the question and its answer. chance: accuracy of the most frequent answer to the questions of this task
    and relation. shots: the examples of the prompt.
    """

    task: str
    with_steps: bool
    relation: Relation
    facts: tuple[WorldFact, ...]
    text: str
    truth: str
    chance: float = 0.0
    shots: tuple["WorldQuestion", ...] = ()

    @property
    def question_with_instruction(self) -> str:
        """The question, followed by how to answer it where the answer is Yes or No."""
        if self.task not in YES_NO_TASKS:
            return self.text
        return self.text + (STEPS if self.with_steps else AT_ONCE)

    @property
    def example_answer(self) -> str:
        """The answer that is shown if this question is an example: "Iron: 26. Gold: 79. So: No"."""
        stated = [f"{fact.subject}: {fact.value}." for fact in self.facts]
        return " ".join([*stated, "So:", self.truth]) if self.with_steps else self.truth

    @cached_property
    def prompt(self) -> str:
        """The prompt with its examples. It ends without a space, which belongs to the answer's first token."""
        shots = [replace(shot, with_steps=self.with_steps) for shot in self.shots]
        examples = [f"Question: {shot.question_with_instruction}\nAnswer: {shot.example_answer}\n\n" for shot in shots]
        return "".join([*examples, f"Question: {self.question_with_instruction}\nAnswer:"])

    def grade(self, response: str) -> Grade:
        """The grade of a response, by the rules of grading.py."""
        names = {RETRIEVAL: value_candidates, INVERSE: subject_candidates}.get(self.task)
        required = [(value_candidates(self.relation), fact.value) for fact in self.facts] if self.with_steps else None
        return grade_response(response, self.truth, names(self.relation) if names else None, required)


def build_questions(n: int | None = None) -> list[WorldQuestion]:
    """All questions, or n of each task (and mode) in a fixed random order, of which smaller n take a prefix.

    Both modes have the same questions. Half of the comparisons are true.
    """
    result: list[WorldQuestion] = []
    for task in TASKS:
        questions = [question for relation in RELATIONS for question in _questions_of_relation(task, relation)]
        chosen = [questions[i] for i in rng("world questions", task).permutation(len(questions))[:n]]
        result += chosen
        if task in YES_NO_TASKS:
            result += [replace(question, with_steps=True) for question in chosen]
    return result


def _questions_of_relation(task: str, relation: Relation) -> list[WorldQuestion]:
    """The questions of a task about a relation, with their chance and examples."""
    make_parts = {
        RETRIEVAL: _retrieval_questions,
        CLASSIFICATION: _classification_questions,
        COMPARISON: _comparison_questions,
        INVERSE: _inverse_questions,
    }[task]
    questions = [WorldQuestion(task, False, relation, *parts) for parts in make_parts(relation)]
    if not questions:
        return []
    chance = max(Counter(question.truth for question in questions).values()) / len(questions)
    questions = [replace(question, chance=chance) for question in questions]
    return [replace(question, shots=_pick_shots(question, questions)) for question in questions]


Parts = tuple[tuple[WorldFact, ...], str, str]  # facts, text and truth of a WorldQuestion


def _retrieval_questions(relation: Relation) -> Iterator[Parts]:
    for fact in facts_of(relation):
        yield (fact,), relation.retrieve.format(subject=fact.subject), fact.value


def _inverse_questions(relation: Relation) -> Iterator[Parts]:
    for fact in facts_of(relation) if relation.invert else ():
        if fact.unique:
            yield (fact,), (relation.invert or "").format(value=fact.value), fact.subject


def _classification_questions(relation: Relation) -> Iterator[Parts]:
    for fact in facts_of(relation) if relation.classify else ():
        text = (relation.classify or "").format(subject=fact.subject)
        yield (fact,), text, _yes_or_no(relation.is_in_class(fact.value))


def _comparison_questions(relation: Relation) -> Iterator[Parts]:
    """Each fact with the next one that has another sort key, around a circle in random order: without ties and repeated
    pairs. The order within pairs alternates, so that Yes and No do too."""
    facts = facts_of(relation) if relation.compare else []
    circle = [facts[i] for i in rng("world pairs", relation.name).permutation(len(facts))]
    for i, fact in enumerate(circle):
        others = circle[i + 1 :] + circle[:i]
        other = next(o for o in others if relation.sort_key(o.value) != relation.sort_key(fact.value))
        low, high = sorted((fact, other), key=lambda f: relation.sort_key(f.value))
        first, second = (high, low) if i % 2 else (low, high)
        text = (relation.compare or "").format(subject=first.subject, other=second.subject)
        yield (first, second), text, _yes_or_no(bool(i % 2))


def _yes_or_no(true: bool) -> str:
    return "Yes" if true else "No"


def _pick_shots(question: WorldQuestion, others: Sequence[WorldQuestion]) -> tuple[WorldQuestion, ...]:
    """Random examples whose subjects differ from those of the question and of each other, and whose answers differ from
    each other and, except Yes and No, from that of the question: they reveal nothing about it."""
    subjects, answers = {fact.subject for fact in question.facts}, {question.truth} - {"Yes", "No"}
    shots: list[WorldQuestion] = []
    for i in rng("world examples", question.text).permutation(len(others)):
        if len(shots) == SHOTS:
            break
        own_subjects = {fact.subject for fact in others[i].facts}
        if not subjects & own_subjects and others[i].truth not in answers:
            shots.append(others[i])
            subjects, answers = subjects | own_subjects, answers | {others[i].truth}
    return tuple(shots)
