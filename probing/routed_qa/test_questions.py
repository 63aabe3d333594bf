"""The questions by which a routed system and its model are compared: their words, and what is a right answer.

Kinds: retrieval, the six questions of Part 3.1 (arXiv 2309.14316); parts, classification, comparison and inverse, those
of Part 3.2 (arXiv 2309.14402, sections 2 to 5), inverse ones for the full name; and three that only a system can be
asked: wordings new to the model, wordings new to the router, and questions without an answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from probing.knowledge.qa_data import questions_of
from probing.routed_qa.database import FACTS, name_of
from probing.routed_qa.router import Way
from probing.routed_qa.system import sources
from synth.bio.codec import sentence
from synth.bio.manipulation import DIRECT, GROUPS, HINT, INVERSE, QUESTIONS
from synth.bio.value_lists import load
from synth.corpus import Corpus
from synth.mixture import parts_of, people_of
from synth.task import Block, Example, Task
from synth.tasks.biomanipulate import BioManipulate

KINDS: dict[str, tuple[str, ...]] = {
    "parts": GROUPS["partial"] + GROUPS["dual"],
    "classification": GROUPS["classification"],
    "comparison": GROUPS["ranking"] + GROUPS["subtraction"],
    "inverse": tuple(name for name in INVERSE if name.endswith("_full")),
}
NEW_TO_MODEL, NEW_TO_ROUTER, UNANSWERABLE = "wording new to the model", "wording new to the router", "unanswerable"

# Wordings that no template has: the text, the way to go, and what it asks for.
UNSEEN: tuple[tuple[str, Way, str], ...] = (
    ("Tell me when {name} was born.", "model", "birth_date"),
    ("{name} comes from which city?", "model", "birth_city"),
    ("At which university did {name} get a degree?", "model", "university"),
    ("Name the company that pays {name}.", "model", "employer"),
    ("Who has the birth date {birth_date}?", "database", "birth_date"),
    ("Find a person whose birth city is {birth_city}.", "database", "birth_city"),
    ("In which year was {name} born?", "steps", "birth_year"),
    ("Is the month in which {name} was born an even one?", "steps", "month_mod_2"),
)


@dataclass(frozen=True)
class Item:
    """One question. text: as a user writes it; prompt: what the model reads instead (None: it cannot be asked); right:
    the answers that are right, of which an answer to "database" questions may name several; none, where there is no
    answer. person: the number of whom it is about; needs: the people and the facts that it takes."""

    kind: str
    question: str
    way: Way
    text: str
    right: frozenset[str]
    person: int
    needs: tuple[tuple[int, str], ...] = ()
    prompt: np.ndarray | None = None
    hinted: bool = False


class Examination:
    """Questions about the first `count` people of a half. Raises UserError for a task without words for them."""

    def __init__(self, task: Task, data_seed: int, half: Any, count: int | None) -> None:
        self.asked = questions_of(task, half)
        self.seed, self.world = data_seed, self.asked.world(data_seed)
        first, stop = self.asked.span
        self.people = range(first, stop if count is None else min(first + count, stop))
        people = people_of(task)
        taught = [part.hint for part in parts_of(task) if isinstance(part, BioManipulate)]
        hint = float(bool(taught) and min(taught) == 1)  # who was taught only to write facts out is asked to
        every = [name for names in KINDS.values() for name in names]
        self.tasks = [people.recast(BioManipulate, half=half, question=name, hint=hint) for name in every]

    def items(self) -> Iterator[Item]:
        """All questions."""
        yield from self._retrieval()
        for task in self.tasks:
            yield from self._manipulation(task)
        yield from self._new_wordings()
        yield from self._unanswerable()

    # ---- what the model can be asked too -----------------------------------------------------------------------------
    def _retrieval(self) -> Iterator[Item]:
        corpus = Corpus(self.asked, self.seed, "test")
        numbers = np.arange(len(FACTS) * len(self.people))
        block, (people, about) = corpus.about(numbers, np.zeros_like(numbers)), self.asked.who_and_what(numbers)
        for i, (person, fact) in enumerate(zip(people.tolist(), (FACTS[a] for a in about), strict=True)):
            text, truth = self._text(block, i), frozenset([self.fact(person, fact)])
            yield Item("retrieval", fact, "model", text, truth, person, ((person, fact),), block[i].prompt)

    def _manipulation(self, task: BioManipulate) -> Iterator[Item]:
        name, question = task.question, QUESTIONS[task.question]
        kind = next(kind for kind, names in KINDS.items() if name in names)
        numbers = np.arange(len(self.people))
        block = task.render_block(self.world, numbers, np.zeros_like(numbers), ("system", self.seed, name), "test")
        given = [fact for fact in FACTS if f"{{{fact}}}" in question.text]
        for i in range(len(block)):
            example = block[i]
            person, other = int(example.slices["person"]), int(example.slices["other"])
            inverse = kind == "inverse"
            facts = given if inverse else sources(question)
            right = self.fitting(person, given) if inverse else frozenset([self._answer(task, example)])
            needs = tuple((who, fact) for who in (person, other) if who >= 0 for fact in facts)
            text, hinted = self._text(block, i), bool(example.slices["hint"])
            way: Way = "database" if inverse else "steps"
            yield Item(kind, name, way, text, right, person, needs, example.prompt, hinted)

    def _answer(self, task: BioManipulate, example: Example) -> str:
        """What is to be worked out, without its full stop."""
        return sentence(task.kit.vocab.decode(task.answer(example))[:-1])

    def _text(self, block: Block, i: int) -> str:
        """The question of a document, without what follows it."""
        ids = block[i].prompt
        ids = self.asked.speller.decode(ids) if self.asked.speller else ids
        special = {HINT, DIRECT, *self.asked.kit.vocab.decode([self.asked.kit.vocab.bos])}
        return sentence([word for word in self.asked.kit.vocab.decode(ids) if word not in special][:-2])

    # ---- what only a system can be asked -----------------------------------------------------------------------------
    def _new_wordings(self) -> Iterator[Item]:
        for fact, wordings in zip(FACTS, load(self.asked.pools).questions, strict=True):
            for words in wordings[self.asked.questions :]:
                for person in self.people:
                    text = sentence(words).replace("{o}", self.name(person)).replace("{p}", f"{self.name(person)}'s")
                    truth = frozenset([self.fact(person, fact)])
                    yield Item(NEW_TO_MODEL, fact, "model", text, truth, person, ((person, fact),))
        for text, way, what in UNSEEN:
            for person in self.people:
                values = {"name": self.name(person), what: self.fact(person, what) if what in FACTS else ""}
                right = self.fitting(person, [what]) if way == "database" else frozenset([self._worked(person, what)])
                needs = (what,) if what in FACTS else sources(QUESTIONS[what])
                pairs = tuple((person, fact) for fact in needs)
                yield Item(NEW_TO_ROUTER, text, way, text.format(**values), right, person, pairs)

    def _worked(self, person: int, what: str) -> str:
        """A fact, the year of a birth, or whether its month is even."""
        if what in FACTS:
            return self.fact(person, what)
        task = next(task for task in self.tasks if task.question == what)
        block = task.render_block(
            self.world, np.array([person - task.span_asked[0]]), np.zeros(1, int), ("one",), "test"
        )
        return self._answer(task, block[0])

    def _unanswerable(self) -> Iterator[Item]:
        """About nobody, about a birth that was none, and no question at all."""
        born = set(zip(self.world.values[:, 0].tolist(), self.world.values[:, 1].tolist(), strict=True))
        nobody: frozenset[str] = frozenset()
        for person, other in zip(self.people, np.roll(self.people, -1).tolist(), strict=True):
            name = " ".join(reversed(self.name(person).split()))
            if name not in self._names:
                yield Item(UNANSWERABLE, "nobody's name", "none", f"When was {name} born?", nobody, person)
            date, city = self.fact(person, "birth_date"), self.fact(other, "birth_city")
            if (int(self.world.values[person, 0]), int(self.world.values[other, 1])) not in born:
                text = f"Who was born on {date} in {city}?"
                yield Item(UNANSWERABLE, "nobody's birth", "database", text, nobody, person)
            text = f"born {self.name(person)} was where"
            yield Item(UNANSWERABLE, "no question", "none", text, nobody, person)

    # ---- the truth ---------------------------------------------------------------------------------------------------
    def name(self, person: int) -> str:
        return " ".join(name_of(self.asked, self.world.names[person]))

    def fact(self, person: int, fact: str) -> str:
        """The true value of one of FACTS."""
        return sentence(self.asked.kit.vocab.decode(self.asked.value_ids(self.world, person, FACTS.index(fact))))

    def fitting(self, person: int, facts: Iterable[str]) -> frozenset[str]:
        """The names of all who share these facts with a person."""
        columns = tuple(FACTS.index(fact) for fact in facts)
        if columns not in self._sharing:
            groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for number, values in enumerate(self.world.values[:, columns].tolist()):
                groups[tuple(values)].append(number)
            self._sharing[columns] = groups
        values = tuple(self.world.values[person, columns].tolist())
        return frozenset(self.name(number) for number in self._sharing[columns][values])

    @cached_property
    def _sharing(self) -> dict[tuple[int, ...], dict[tuple[int, ...], list[int]]]:
        return {}

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.name(person) for person in range(len(self.world.names)))
