"""A model with a database beside it and its steps written out: the way round what models cannot do with what they know.

A model tells facts that it was asked for in training (Part 3.1, arXiv 2309.14316), but compares and computes hardly
without writing the facts out first, and finds nobody by a fact (Part 3.2, arXiv 2309.14402, sections 3 to 5). So
questions for a fact go to the model; who has a fact is looked up in what was read; and what must be worked out is
worked out here, from facts that the model is asked for one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probing.knowledge.qa_data import choices, questions_of
from probing.routed_qa.database import FACTS, Database, read
from probing.routed_qa.router import WORKED_OUT, Route, Router, Way
from synth.bio.codec import sentence
from synth.bio.manipulation import NO, YES, Question, luckiness
from synth.bio.value_lists import MONTHS
from synth.errors import UserError
from synth.task import Task
from synth.tasks.bioqa import BioQuestions

if TYPE_CHECKING:
    from lm.model import Decoder

BATCH = 512  # prompts
CANNOT = "cannot answer: "
WAY_NAMES: dict[Way, str] = {
    "model": "the model, which tells facts that it is asked for",
    "database": "the database, filled from the biographies",
    "steps": "steps, with facts from the model",
    "none": "none",
}
SOURCE = {"day": "birth_date", "month": "birth_date", "year": "birth_date", "luck": "major"}  # whence a part is taken


@dataclass(frozen=True)
class Asked:
    """A question to the model: the full name of the person, which of ATTRIBUTES, and in which of its wordings."""

    name: str
    attribute: int
    wording: int = 0


@dataclass(frozen=True)
class Answer:
    """text: the answer (several people with "; " between), or, after CANNOT, why there is none; way: who gave it;
    steps: what was done for it, a line each."""

    text: str
    way: Way
    steps: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether it is an answer."""
        return not self.text.startswith(CANNOT)

    @property
    def shown(self) -> str:
        """The answer, the way and the steps, a line each."""
        return "\n".join([self.text, f"  way: {WAY_NAMES[self.way]}", *(f"  - {step}" for step in self.steps)])


class Unanswerable(Exception):
    """Why a question has no answer."""


class KnowledgeSystem:
    """Answers questions about the people of a task, which `model` was trained on with this data_seed.

    Raises UserError for a task without people or without words for questions, for an encoder and a model with another
    vocabulary, and where duckdb is not installed.
    """

    def __init__(self, model: "Decoder", task: Task, data_seed: int) -> None:
        from lm.model import require_causal
        from probing.knowledge.qa_scoring import check_model

        self.people: BioQuestions = questions_of(task, "all")
        require_causal(model, "answering questions")
        check_model(model, self.people)
        self.model, self.router = model, Router(self.people)
        self.database = Database(read(task, data_seed))
        self._told: dict[Asked, str | None] = {}
        self._luck = luckiness(len(self.people.lists.majors))
        self.room = 2 + max(len(value) for found in choices(self.people) for value in found.candidates)

    def answer(self, question: str) -> Answer:
        """The answer to a question in words."""
        return self.answers([question])[0]

    def answers(self, questions: Sequence[str]) -> list[Answer]:
        """The answers to many, for which the model is asked everything together."""
        routes = [self._checked(self.router.read(question)) for question in questions]
        self.told([asked for route in routes for asked in self._needs(route)])
        return [self._answer(route) for route in routes]

    # ---- the model -------------------------------------------------------------------------------------------------
    def told(self, asked: Sequence[Asked]) -> list[str | None]:
        """What the model answers to each of these, up to the full stop; None where it writes none."""
        from lm.inference.sampling import generate

        if new := [one for one in dict.fromkeys(asked) if one not in self._told]:
            bos, eos = self.people.vocab().bos, self.people.vocab().eos
            prompts = [np.concatenate([[bos], self.people.encode(self._prompt(one))]) for one in new]
            written = generate(self.model, prompts, self.room, 0.0, eos, batch=BATCH, progress=lambda *_: None)
            said = [sentences(self.people, ids) for ids in written]
            self._told |= {one: found[0] if found else None for one, found in zip(new, said, strict=True)}
        return [self._told[one] for one in asked]

    def _prompt(self, asked: Asked) -> str:
        """The question in a wording that the model was trained with: in the first, if that asked for is none."""
        wordings = self.people.lists.questions[asked.attribute]
        words = wordings[asked.wording if asked.wording < len(wordings) else 0]
        person = {"{o}": asked.name, "{p}": f"{asked.name} 's"}
        return " ".join([*(person.get(word, word) for word in words), "Answer", ":"])

    def _fact(self, asked: Asked, steps: list[str]) -> str:
        """What the model says, which must be something that the attribute can be."""
        said = self.told([asked])[0]
        steps.append(f"asked the model: {sentence(self._prompt(asked).split())} {said or '(no answer)'}")
        if said not in self.router.texts(FACTS[asked.attribute]):
            raise Unanswerable(f"what the model says is no {FACTS[asked.attribute].replace('_', ' ')}")
        return str(said)

    # ---- the ways --------------------------------------------------------------------------------------------------
    def _checked(self, route: Route) -> Route:
        """The route, unless it is about somebody of whom nothing was read."""
        unknown = next((name for name in route.names if name not in self.database.names), None)
        return Route("none", f"nobody here is called {unknown}") if unknown else route

    def _needs(self, route: Route) -> list[Asked]:
        """What the model must be asked."""
        if route.way == "model":
            return [Asked(route.names[0], FACTS.index(route.what), route.wording)]
        if route.way == "steps":
            return [Asked(name, FACTS.index(fact)) for name in route.names for fact in sources(WORKED_OUT[route.what])]
        return []

    def _answer(self, route: Route) -> Answer:
        steps: list[str] = []
        ways = {"model": self._forward, "database": self._inverse, "steps": self._worked_out}
        try:
            if route.way == "none":
                raise Unanswerable(route.what)
            text = ways[route.way](route, steps)
        except Unanswerable as reason:
            text = f"{CANNOT}{reason}"
        return Answer(text, route.way, tuple(steps))

    def _forward(self, route: Route, steps: list[str]) -> str:
        return self._fact(self._needs(route)[0], steps)

    def _inverse(self, route: Route, steps: list[str]) -> str:
        names = self.database.who(route.given)
        facts = ", ".join(f"{column.replace('_', ' ')} {text}" for column, text in route.given)
        steps.append(f"looked up in the database: {facts}; found {len(names)}")
        if not names:
            raise Unanswerable("of nobody here this was read")
        return "; ".join(dict.fromkeys(name.split()[0] if route.what == "first" else name for name in names))

    def _worked_out(self, route: Route, steps: list[str]) -> str:
        question = WORKED_OUT[route.what]
        facts = {asked: self._fact(asked, steps) for asked in self._needs(route)}
        if question.answer:
            named = {FACTS[asked.attribute]: value for asked, value in facts.items()}
            return "; ".join(part_of(fact, named[SOURCE.get(fact, fact)], steps) for fact in question.answer)
        numbers = [self._number(question.over, value, steps) for value in facts.values()]
        return concluded(question, numbers[0], numbers[-1], steps)

    def _number(self, over: str, value: str, steps: list[str]) -> int:
        """The number of a month, day or major."""
        if over == "luck":
            number = int(self._luck[self.router.texts("major")[value]])
            steps.append(f"the luckiness of {value} is {number}")
            return number
        part = part_of(over, value, steps)
        if over == "month":
            steps.append(f"{part} is month {MONTHS.index(part) + 1}")
        return int(part) if over == "day" else MONTHS.index(part) + 1


def sources(question: Question) -> list[str]:
    """The facts of a person that a question needs, each once."""
    facts = question.answer or (question.over,)
    return list(dict.fromkeys(SOURCE.get(fact, fact) for fact in facts))


def part_of(fact: str, value: str, steps: list[str]) -> str:
    """The month, day or year of a birth date; any other fact whole."""
    if SOURCE.get(fact) != "birth_date":
        return value
    part = dict(zip(("month", "day", "year"), value.replace(",", "").split(), strict=True))[fact]
    steps.append(f"the {fact} of {value} is {part}")
    return part


def concluded(question: Question, x: int, y: int, steps: list[str]) -> str:
    """What follows from the number of the person and that of the other one."""
    result = int(question.result(np.array([x]), np.array([y]))[0])
    text = (NO, YES)[result] if question.yes_or_no else str(result)
    shown = {"even": f"is {x} even", "later": f"is {x} larger than {y}", "mod": f"{x} modulo {question.modulus}"}
    shown |= {"minus": f"{x} - {y}", "number": f"{x}"}
    steps.append(f"{shown[question.rule]}: {text}")
    return text


def sentences(people: BioQuestions, ids: np.ndarray) -> list[str]:
    """What a model wrote, up to each full stop; what comes after the last one is no answer."""
    ids = ids[ids != people.vocab().eos]
    try:
        words = people.kit.vocab.decode(people.speller.decode(ids) if people.speller else ids)
    except UserError:  # an id that a padded embedding has and no word
        return []
    stops = [i for i, word in enumerate(words) if word == "."]
    return [sentence(words[start:stop]) for start, stop in zip([0, *(i + 1 for i in stops)], stops, strict=False)]
