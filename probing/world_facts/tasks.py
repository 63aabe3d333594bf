"""The four tasks of Part 3.2 (arXiv 2309.14402), with real-world facts instead of people made up: retrieval,
classification and comparison (section 4), inverse search (section 5). Any language model can be asked.

Every question comes with two examples of its kind, about other things, so that a model that was never tuned to follow
instructions sees what is wanted. Classification and comparison are asked twice: for Yes or No at once, and with the
facts written out before.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from probing.world_facts.facts import RELATIONS, Relation, WorldFact, facts_of, subjects_of, values_of
from probing.world_facts.grading import Verdict, judge
from synth.random.rng import rng

RETRIEVAL, CLASSIFICATION, COMPARISON, INVERSE = TASKS = ("retrieval", "classification", "comparison", "inverse search")
WORKED_OUT = (CLASSIFICATION, COMPARISON)  # Yes or No follows from the facts
AT_ONCE, STEPS = " Answer Yes or No.", " First state the facts that this needs, then answer Yes or No."
SHOTS = 2


@dataclass(frozen=True)
class WorldQuestion:
    """task: one of TASKS; steps: whether the facts are to be written out first; about: the relation; facts: those that
    it takes; text, truth: the question and its answer; chance: how often the commonest answer to such questions is
    right; shots: questions that are shown with their answers before this one."""

    task: str
    steps: bool
    about: Relation
    facts: tuple[WorldFact, ...]
    text: str
    truth: str
    chance: float = 0.0
    shots: tuple["WorldQuestion", ...] = ()

    @property
    def asked(self) -> str:
        """The question with what is wanted."""
        if self.task not in WORKED_OUT:
            return self.text
        return self.text + (STEPS if self.steps else AT_ONCE)

    @property
    def wanted(self) -> str:
        """The answer as an example gives it: "Iron: 26. Gold: 79. So: No"."""
        stated = [f"{fact.subject}: {fact.value}." for fact in self.facts]
        return " ".join([*stated, "So:", self.truth]) if self.steps else self.truth

    @cached_property
    def prompt(self) -> str:
        """What a model reads. It ends without a space, which belongs to the answer's first token."""
        examples = [replace(shot, steps=self.steps) for shot in self.shots]
        shown = [f"Question: {shot.asked}\nAnswer: {shot.wanted}\n\n" for shot in examples]
        return "".join([*shown, f"Question: {self.asked}\nAnswer:"])

    def judge(self, said: str) -> Verdict:
        """What was said, by the rules of judging.py."""
        names = {RETRIEVAL: values_of, INVERSE: subjects_of}.get(self.task)
        stated = [(values_of(self.about), fact.value) for fact in self.facts] if self.steps else None
        return judge(said, self.truth, names(self.about) if names else None, stated)


def questions(n: int | None = None) -> list[WorldQuestion]:
    """All questions, or n of each task, drawn once for all, so that fewer are the first of more; with and without steps
    they are the same. Comparisons are as often true as false."""
    found: list[WorldQuestion] = []
    for task in TASKS:
        bare = [question for about in RELATIONS for question in _of(task, about)]
        chosen = [bare[i] for i in rng("world questions", task).permutation(len(bare))[:n]]
        found += chosen
        if task in WORKED_OUT:
            found += [replace(question, steps=True) for question in chosen]
    return found


def _of(task: str, about: Relation) -> list[WorldQuestion]:
    """The questions of a task about a relation, with their chance and examples."""
    made = {RETRIEVAL: _forward, CLASSIFICATION: _classes, COMPARISON: _pairs, INVERSE: _backward}[task](about)
    bare = [WorldQuestion(task, False, about, *parts) for parts in made]
    if not bare:
        return []
    chance = max(Counter(question.truth for question in bare).values()) / len(bare)
    bare = [replace(question, chance=chance) for question in bare]
    return [replace(question, shots=_shots(question, bare)) for question in bare]


Parts = tuple[tuple[WorldFact, ...], str, str]  # the facts, the question, the answer


def _forward(about: Relation) -> Iterator[Parts]:
    for fact in facts_of(about):
        yield (fact,), about.retrieve.format(subject=fact.subject), fact.value


def _backward(about: Relation) -> Iterator[Parts]:
    for fact in facts_of(about) if about.invert else ():
        if fact.unique:
            yield (fact,), (about.invert or "").format(value=fact.value), fact.subject


def _classes(about: Relation) -> Iterator[Parts]:
    for fact in facts_of(about) if about.classify else ():
        yield (fact,), (about.classify or "").format(subject=fact.subject), _word(about.holds(fact.value))


def _pairs(about: Relation) -> Iterator[Parts]:
    """Every fact and the next one of another rank, around a circle in random order: no pair comes twice, and there are
    no ties. Which of them is named first takes turns, so that Yes and No alternate."""
    held = facts_of(about) if about.compare else []
    circle = [held[i] for i in rng("world pairs", about.name).permutation(len(held))]
    for number, fact in enumerate(circle):
        others = circle[number + 1 :] + circle[:number]
        other = next(one for one in others if about.rank(one.value) != about.rank(fact.value))
        low, high = sorted((fact, other), key=lambda one: about.rank(one.value))
        first, second = (high, low) if number % 2 else (low, high)
        text = (about.compare or "").format(subject=first.subject, other=second.subject)
        yield (first, second), text, _word(bool(number % 2))


def _word(true: bool) -> str:
    return "Yes" if true else "No"


def _shots(question: WorldQuestion, others: Sequence[WorldQuestion]) -> tuple[WorldQuestion, ...]:
    """Examples that share no subject with the question or each other, nor an answer other than Yes or No with the
    question; their answers differ. None of them tells anything about what is asked."""
    subjects, answers = {fact.subject for fact in question.facts}, {question.truth} - {"Yes", "No"}
    found: list[WorldQuestion] = []
    for i in rng("world examples", question.text).permutation(len(others)):
        if len(found) == SHOTS:
            break
        own = {fact.subject for fact in others[i].facts}
        if not subjects & own and others[i].truth not in answers:
            found.append(others[i])
            subjects, answers = subjects | own, answers | {others[i].truth}
    return tuple(found)
