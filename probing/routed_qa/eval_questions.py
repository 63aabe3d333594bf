"""The questions on which a routed system and its model are compared, with their correct answers.

Kinds: retrieval, the six questions of Part 3.1 (arXiv 2309.14316); parts, classification, comparison and inverse, those
of Part 3.2 (arXiv 2309.14402, sections 2 to 5), inverse ones for the full name; and three for the system only: wordings
new to the model, wordings new to the router, and unanswerable questions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from probing.knowledge.qa_data import fill_person, make_question_task, name_words
from probing.routed_qa.database import FACT_COLUMNS
from probing.routed_qa.router import Way
from probing.routed_qa.system import required_facts
from synth.bio.codec import join_words
from synth.bio.manipulation import DIRECT, GROUPS, HINT, INVERSE, QUESTIONS
from synth.bio.value_lists import load_value_lists
from synth.corpus import Corpus
from synth.mixture import parts_of
from synth.task import Block, Example, TrainingData
from synth.tasks.biomanipulate import BioManipulate
from synth.tasks.bios import biographies_of

KINDS: dict[str, tuple[str, ...]] = {
    "parts": GROUPS["partial"] + GROUPS["dual"],
    "classification": GROUPS["classification"],
    "comparison": GROUPS["ranking"] + GROUPS["subtraction"],
    "inverse": tuple(name for name in INVERSE if name.endswith("_full")),
}
NEW_TO_MODEL, NEW_TO_ROUTER, UNANSWERABLE = "wording new to the model", "wording new to the router", "unanswerable"

# Wordings without a template: the text, the correct way, and the fact or question of Part 3.2 asked for.
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
class EvalQuestion:
    """One question.

    way: the correct way. text: the question in English. correct_answers: empty for an unanswerable question; an answer
    to a "database" question may name several. person: index of the person it is about. required_facts: (person, fact)
    pairs that the answer needs. prompt: ids (T,) for the bare model (None: it cannot be asked). hinted: whether the
    model's answer follows a hint.
    """

    kind: str
    question: str
    way: Way
    text: str
    correct_answers: frozenset[str]
    person: int
    required_facts: tuple[tuple[int, str], ...] = ()
    prompt: np.ndarray | None = None
    hinted: bool = False


class EvalSet:
    """Questions about the first `count` people of a half (None: all), with the true answers.

    Raises UserError for a task without words for them.
    """

    def __init__(self, task: TrainingData, data_seed: int, half: Any, count: int | None) -> None:
        self.question_task = make_question_task(task, half)
        self.seed, self.world = data_seed, self.question_task.world(data_seed)
        first, stop = self.question_task.people_range
        self.people = range(first, stop if count is None else min(first + count, stop))
        people = biographies_of(task)
        hints = [part.hint for part in parts_of(task) if isinstance(part, BioManipulate)]
        hint = float(bool(hints) and min(hints) == 1)  # a model trained only with hints is tested with hints
        names = [name for group in KINDS.values() for name in group]
        self.tasks = [people.as_task(BioManipulate, half=half, question=name, hint=hint) for name in names]

    def generate_questions(self) -> Iterator[EvalQuestion]:
        """All questions, kind by kind."""
        yield from self._retrieval()
        for task in self.tasks:
            yield from self._manipulation(task)
        yield from self._new_wordings()
        yield from self._unanswerable()

    # ---- questions to the system and to the bare model ---------------------------------------------------------------
    def _retrieval(self) -> Iterator[EvalQuestion]:
        corpus = Corpus(self.question_task, self.seed, "test")
        items = np.arange(len(FACT_COLUMNS) * len(self.people))
        block = corpus.render_items(items, np.zeros_like(items))
        people, attributes = self.question_task.split_items(items)
        for i, (person, fact) in enumerate(zip(people.tolist(), (FACT_COLUMNS[a] for a in attributes), strict=True)):
            text, truth = self._question_text(block, i), frozenset([self.true_value(person, fact)])
            yield EvalQuestion("retrieval", fact, "model", text, truth, person, ((person, fact),), block[i].prompt)

    def _manipulation(self, task: BioManipulate) -> Iterator[EvalQuestion]:
        name, question = task.question, QUESTIONS[task.question]
        kind = next(kind for kind, names in KINDS.items() if name in names)
        items = np.arange(len(self.people))
        block = task.render_block(self.world, items, np.zeros_like(items), ("system", self.seed, name), "test")
        conditions = [fact for fact in FACT_COLUMNS if f"{{{fact}}}" in question.text]
        for i in range(len(block)):
            example = block[i]
            person, other = int(example.slices["person"]), int(example.slices["other"])
            inverse = kind == "inverse"
            facts = conditions if inverse else required_facts(question)
            truth = self._true_answer(task, example)
            answers = self.names_sharing_facts(person, conditions) if inverse else frozenset([truth])
            pairs = tuple((who, fact) for who in (person, other) if who >= 0 for fact in facts)
            text, hinted = self._question_text(block, i), bool(example.slices["hint"])
            way: Way = "database" if inverse else "steps"
            yield EvalQuestion(kind, name, way, text, answers, person, pairs, example.prompt, hinted)

    def _true_answer(self, task: BioManipulate, example: Example) -> str:
        """The true answer, without its full stop."""
        return join_words(task.lexicon.vocab.decode(task.true_answer(example))[:-1])

    def _question_text(self, block: Block, i: int) -> str:
        """The question of document i, without the words "Answer :" behind it."""
        task, ids = self.question_task, block[i].prompt
        vocab = task.lexicon.vocab
        words = vocab.decode(task.text_codec.decode(ids) if task.text_codec else ids)
        special = {HINT, DIRECT, *vocab.decode([vocab.bos])}
        return join_words([word for word in words if word not in special][:-2])

    # ---- questions to the system only --------------------------------------------------------------------------------
    def _new_wordings(self) -> Iterator[EvalQuestion]:
        for fact, wordings in zip(FACT_COLUMNS, load_value_lists(self.question_task.pools).questions, strict=True):
            for words in wordings[self.question_task.questions :]:
                for person in self.people:
                    text = join_words(fill_person(words, self.name(person)).split())
                    answers = frozenset([self.true_value(person, fact)])
                    yield EvalQuestion(NEW_TO_MODEL, fact, "model", text, answers, person, ((person, fact),))
        for text, way, target in UNSEEN:
            facts = [target] if target in FACT_COLUMNS else required_facts(QUESTIONS[target])
            for person in self.people:
                truth = self._true_value_or_answer(person, target)
                answers = self.names_sharing_facts(person, [target]) if way == "database" else frozenset([truth])
                values, pairs = {"name": self.name(person), target: truth}, tuple((person, fact) for fact in facts)
                yield EvalQuestion(NEW_TO_ROUTER, text, way, text.format(**values), answers, person, pairs)

    def _true_value_or_answer(self, person: int, target: str) -> str:
        """The true value of a fact, or the true answer to a question of Part 3.2 about one person."""
        if target in FACT_COLUMNS:
            return self.true_value(person, target)
        task = next(task for task in self.tasks if task.question == target)
        item = np.array([person - task.asked_people[0]])
        block = task.render_block(self.world, item, np.zeros(1, int), ("one",), "test")
        return self._true_answer(task, block[0])

    def _unanswerable(self) -> Iterator[EvalQuestion]:
        """Questions about an unknown name, for a person with facts that nobody has, and a text that is no question."""
        born = set(zip(self.world.values[:, 0].tolist(), self.world.values[:, 1].tolist(), strict=True))
        nobody: frozenset[str] = frozenset()
        for person, other in zip(self.people, np.roll(self.people, -1).tolist(), strict=True):
            name = " ".join(reversed(self.name(person).split()))
            if name not in self._names:
                yield EvalQuestion(UNANSWERABLE, "nobody's name", "none", f"When was {name} born?", nobody, person)
            date, city = self.true_value(person, "birth_date"), self.true_value(other, "birth_city")
            if (int(self.world.values[person, 0]), int(self.world.values[other, 1])) not in born:
                text = f"Who was born on {date} in {city}?"
                yield EvalQuestion(UNANSWERABLE, "nobody's birth", "database", text, nobody, person)
            text = f"born {self.name(person)} was where"
            yield EvalQuestion(UNANSWERABLE, "no question", "none", text, nobody, person)

    # ---- true answers ------------------------------------------------------------------------------------------------
    def name(self, person: int) -> str:
        """The full name."""
        return " ".join(name_words(self.question_task, self.world.names[person]))

    def true_value(self, person: int, fact: str) -> str:
        """The true value of one of FACT_COLUMNS."""
        ids = self.question_task.value_ids(self.world, person, FACT_COLUMNS.index(fact))
        return join_words(self.question_task.lexicon.vocab.decode(ids))

    def names_sharing_facts(self, person: int, facts: Iterable[str]) -> frozenset[str]:
        """The names of all people who share these facts with a person, that person included."""
        columns = tuple(FACT_COLUMNS.index(fact) for fact in facts)
        if columns not in self._people_by_values:
            groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for other, values in enumerate(self.world.values[:, columns].tolist()):
                groups[tuple(values)].append(other)
            self._people_by_values[columns] = groups
        values = tuple(self.world.values[person, columns].tolist())
        return frozenset(self.name(other) for other in self._people_by_values[columns][values])

    @cached_property
    def _people_by_values(self) -> dict[tuple[int, ...], dict[tuple[int, ...], list[int]]]:
        return {}

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.name(person) for person in range(len(self.world.names)))
