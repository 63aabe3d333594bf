"""A routed question answering system: a model, a database, and computation in explicit steps.

Models extract facts in question formats that they were trained on (Part 3.1, arXiv 2309.14316), but hardly compare or
compute without stating the facts first, and fail at inverse search (Part 3.2, arXiv 2309.14402, sections 3 to 5). So
the model answers questions for a fact, the database finds people by facts, and comparisons and computations are done
here on facts for which the model is asked one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probing.knowledge.qa_data import answer_choices, fill_person, make_question_task
from probing.routed_qa.database import FACT_COLUMNS, Database, read_biographies
from probing.routed_qa.router import COMPUTED_QUESTIONS, Route, Router, Way
from synth.bio.codec import join_words
from synth.bio.manipulation import NO, YES, Question, luckiness
from synth.bio.value_lists import MONTHS
from synth.errors import UserError
from synth.task import TrainingData
from synth.tasks.bioqa import BioQuestions

if TYPE_CHECKING:
    from lm.model import Decoder

CANNOT = "cannot answer: "
WAY_NAMES: dict[Way, str] = {
    "model": "the model, which tells facts that it is asked for",
    "database": "the database, filled from the biographies",
    "steps": "steps, with facts from the model",
    "none": "none",
}
PART_OF_FACT = {"day": "birth_date", "month": "birth_date", "year": "birth_date", "luck": "major"}


@dataclass(frozen=True)
class FactQuery:
    """A question to the model. name: full name of the person. attribute: index in ATTRIBUTES. wording: index of the
    phrasing of the question."""

    name: str
    attribute: int
    wording: int = 0


@dataclass(frozen=True)
class Answer:
    """text: the answer, several people separated by "; "; or CANNOT and the reason. way: the component that answered.
    steps: the lookups and computations, one line each."""

    text: str
    way: Way
    steps: tuple[str, ...] = ()

    @property
    def is_answered(self) -> bool:
        """Whether the text is an answer and not a reason why there is none."""
        return not self.text.startswith(CANNOT)

    @property
    def formatted(self) -> str:
        """The answer, the way and the steps, one line each."""
        return "\n".join([self.text, f"  way: {WAY_NAMES[self.way]}", *(f"  - {step}" for step in self.steps)])


class Unanswerable(Exception):
    """A question has no answer; the message says why."""


class KnowledgeSystem:
    """Answers questions about the people of a task on which `model` was trained with this data_seed.

    Raises UserError for a task without people or words for questions, for an encoder, for a model with another
    vocabulary, and if duckdb is not installed.
    """

    def __init__(self, model: "Decoder", task: TrainingData, data_seed: int) -> None:
        from lm.model import require_causal
        from probing.knowledge.qa_scoring import check_vocabulary

        self.people: BioQuestions = make_question_task(task, "all")
        require_causal(model, "answering questions")
        check_vocabulary(model, self.people)
        self.model, self.router = model, Router(self.people)
        self.database = Database(read_biographies(task, data_seed))
        self._cached_facts: dict[FactQuery, str | None] = {}
        self._luck = luckiness(len(self.people.value_lists.majors))
        values = (value for choices in answer_choices(self.people) for value in choices.sequences)
        self.max_new_tokens = 2 + max(map(len, values))

    def answer(self, question: str) -> Answer:
        """The answer to a question in English."""
        return self.answers([question])[0]

    def answers(self, questions: Sequence[str]) -> list[Answer]:
        """The answers to questions in English; the queries to the model are batched over all of them."""
        routes = [self._reject_unknown_people(self.router.route(question)) for question in questions]
        self.query_model([query for route in routes for query in self._required_queries(route)])
        return [self._answer(route) for route in routes]

    # ---- the model -------------------------------------------------------------------------------------------------
    def query_model(self, queries: Sequence[FactQuery]) -> list[str | None]:
        """The model's greedy answer to each query, up to the full stop; None if it writes none. Answers are cached."""
        from probing.knowledge.qa_scoring import greedy_completions

        if new := [query for query in dict.fromkeys(queries) if query not in self._cached_facts]:
            bos, eos = self.people.vocab().bos, self.people.vocab().eos
            prompts = [np.concatenate([[bos], self.people.encode(self._prompt(query))]) for query in new]
            completions = greedy_completions(self.model, prompts, self.max_new_tokens, eos)
            for query, ids in zip(new, completions, strict=True):
                self._cached_facts[query] = next(iter(split_sentences(self.people, ids)), None)
        return [self._cached_facts[query] for query in queries]

    def _prompt(self, query: FactQuery) -> str:
        """The question in its wording if the model was trained with it, else in the first wording."""
        wordings = self.people.value_lists.questions[query.attribute]
        words = wordings[query.wording if query.wording < len(wordings) else 0]
        return f"{fill_person(words, query.name)} Answer :"

    def _query_fact(self, query: FactQuery, steps: list[str]) -> str:
        """The model's answer. Raises Unanswerable unless it is a value of the attribute."""
        value = self.query_model([query])[0]
        steps.append(f"asked the model: {join_words(self._prompt(query).split())} {value or '(no answer)'}")
        if value not in self.router.value_indices(FACT_COLUMNS[query.attribute]):
            raise Unanswerable(f"what the model says is no {FACT_COLUMNS[query.attribute].replace('_', ' ')}")
        return str(value)

    # ---- the ways --------------------------------------------------------------------------------------------------
    def _reject_unknown_people(self, route: Route) -> Route:
        """The route, or a route of way "none" if it names a person who is not in the database."""
        unknown = next((name for name in route.names if name not in self.database.names), None)
        return Route("none", f"nobody here is called {unknown}") if unknown else route

    def _required_queries(self, route: Route) -> list[FactQuery]:
        """The facts that the model must be asked for."""
        if route.way == "model":
            return [FactQuery(route.names[0], FACT_COLUMNS.index(route.target), route.wording)]
        if route.way == "steps":
            facts = required_facts(COMPUTED_QUESTIONS[route.target])
            return [FactQuery(name, FACT_COLUMNS.index(fact)) for name in route.names for fact in facts]
        return []

    def _answer(self, route: Route) -> Answer:
        steps: list[str] = []
        ways = {"model": self._answer_by_model, "database": self._answer_by_database, "steps": self._answer_by_steps}
        try:
            if route.way == "none":
                raise Unanswerable(route.target)
            text = ways[route.way](route, steps)
        except Unanswerable as reason:
            text = f"{CANNOT}{reason}"
        return Answer(text, route.way, tuple(steps))

    def _answer_by_model(self, route: Route, steps: list[str]) -> str:
        return self._query_fact(self._required_queries(route)[0], steps)

    def _answer_by_database(self, route: Route, steps: list[str]) -> str:
        names = self.database.names_with(route.slots)
        facts = ", ".join(f"{column.replace('_', ' ')} {text}" for column, text in route.slots)
        steps.append(f"looked up in the database: {facts}; found {len(names)}")
        if not names:
            raise Unanswerable("of nobody here this was read")
        return "; ".join(dict.fromkeys(name.split()[0] if route.target == "first" else name for name in names))

    def _answer_by_steps(self, route: Route, steps: list[str]) -> str:
        question = COMPUTED_QUESTIONS[route.target]
        values = {query: self._query_fact(query, steps) for query in self._required_queries(route)}
        if question.answer:
            by_fact = {FACT_COLUMNS[query.attribute]: value for query, value in values.items()}
            parts = [extract_part(part, by_fact[PART_OF_FACT.get(part, part)], steps) for part in question.answer]
            return "; ".join(parts)
        numbers = [self._to_number(question.quantity, value, steps) for value in values.values()]
        return apply_rule(question, numbers[0], numbers[-1], steps)

    def _to_number(self, quantity: str, value: str, steps: list[str]) -> int:
        """The number of the month or day in a birth date, or the luckiness of a major."""
        if quantity == "luck":
            number = int(self._luck[self.router.value_indices("major")[value]])
            steps.append(f"the luckiness of {value} is {number}")
            return number
        part = extract_part(quantity, value, steps)
        if quantity == "month":
            steps.append(f"{part} is month {MONTHS.index(part) + 1}")
        return int(part) if quantity == "day" else MONTHS.index(part) + 1


def required_facts(question: Question) -> list[str]:
    """The distinct facts of a person that a question needs."""
    facts = question.answer or (question.quantity,)
    return list(dict.fromkeys(PART_OF_FACT.get(fact, fact) for fact in facts))


def extract_part(fact: str, value: str, steps: list[str]) -> str:
    """The month, day or year of a birth date `value`; the value itself if `fact` is no part of a birth date."""
    if PART_OF_FACT.get(fact) != "birth_date":
        return value
    part = dict(zip(("month", "day", "year"), value.replace(",", "").split(), strict=True))[fact]
    steps.append(f"the {fact} of {value} is {part}")
    return part


def apply_rule(question: Question, x: int, y: int, steps: list[str]) -> str:
    """The answer computed from the number x of the person and y of the other person."""
    result = int(question.result(np.array([x]), np.array([y]))[0])
    text = (NO, YES)[result] if question.yes_or_no else str(result)
    shown = {"even": f"is {x} even", "later": f"is {x} larger than {y}", "mod": f"{x} modulo {question.modulus}"}
    shown |= {"minus": f"{x} - {y}", "number": f"{x}"}
    steps.append(f"{shown[question.rule]}: {text}")
    return text


def split_sentences(people: BioQuestions, ids: np.ndarray) -> list[str]:
    """The sentences of a completion (T,), without full stops; text after the last full stop is dropped."""
    ids = ids[ids != people.vocab().eos]
    try:
        words = people.lexicon.vocab.decode(people.text_codec.decode(ids) if people.text_codec else ids)
    except UserError:  # an id beyond the vocabulary, which a padded embedding has
        return []
    stops = [i for i, word in enumerate(words) if word == "."]
    return [join_words(words[start:stop]) for start, stop in zip([0, *(i + 1 for i in stops)], stops, strict=False)]
