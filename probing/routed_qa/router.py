"""Which way a question takes, by its text alone: to the model, to the database, in steps, or no way at all.

A reader of templates: the wordings that there are for questions on bioS (synth/bio/data/questions.txt, and those of
Part 3.2, arXiv 2309.14402), with the lists of names and values that the people were made of. What it cannot read, it
says so and why; it never guesses.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from probing.routed_qa.database import FACTS
from synth.bio import codec as codecs
from synth.bio.manipulation import CLASSIFICATION, DUAL, NAME, PARTIAL, RANKING, SUBTRACTION
from synth.bio.value_lists import load
from synth.tasks.bios import BioS
from synth.vocab import Vocab

Way = Literal["model", "database", "steps", "none"]
WAYS: tuple[Way, ...] = ("model", "database", "steps", "none")
Words = tuple[str, ...]
Found = tuple[tuple[str, Words], ...]  # slots and the words in them
WORKED_OUT = {**PARTIAL, **DUAL, **CLASSIFICATION, **RANKING, **SUBTRACTION}
MOST = 100  # words of a question

# Who it is: one of these heads and any of these clauses, one after another, as in section 5 of the paper.
HEADS = {
    "who": "name",
    "which person": "name",
    "what is the name of the person who": "name",
    "what is the full name of the person who": "name",
    "what is the first name of the person who": "first",
}
CLAUSES = (
    "was born on {birth_date}", "was born in {birth_city}", "was born on {birth_date} in {birth_city}",
    "was born in {birth_city} on {birth_date}", "studied {major}", "studied at {university}", "attended {university}",
    "studied {major} at {university}", "worked for {employer}", "worked in {employer_city}",
    "worked for {employer} in {employer_city}",
)  # fmt: skip
RULES: dict[str, list[Words]] = {
    "{facts}": [(*clause.split(), "{more}") for clause in CLAUSES],
    "{more}": [(), ("{facts}",), ("and", "{facts}")],
}


@dataclass(frozen=True)
class Route:
    """way; what: the attribute asked for ("model"), the question of Part 3.2 ("steps"), "name" or "first"
    ("database"), or the reason ("none"); given: names and facts in the question, as slot and text; wording: which of
    the phrasings for its attribute it is."""

    way: Way
    what: str
    given: tuple[tuple[str, str], ...] = ()
    wording: int = 0

    @property
    def names(self) -> list[str]:
        """The people that it is about."""
        return [text for slot, text in self.given if slot in ("name", "other")]


class Router:
    """Reads questions about the people of a task, in any wording that the lists have, whatever their case, spacing and
    commas, with or without question mark."""

    def __init__(self, people: BioS) -> None:
        self.forms = [*_forward(people), *_worked_out(), *_inverse()]
        vocab, rows, bases = people.kit.vocab, people.kit.values.rows, people.kit.bases.tolist()
        values = [
            [vocab.decode(row) for row in rows[start:stop]]
            for start, stop in zip(bases, [*bases[1:], len(rows)], strict=True)
        ]
        lists = people.lists
        words = [*vocab.symbols, *(word for form, *_ in self.forms for word in form if word not in RULES)]
        self._known = Vocab(tuple(dict.fromkeys(word.lower() for word in words)))
        self._names = [{name.lower(): name for name in part} for part in (lists.first, lists.middle, lists.last)]
        self._numbers: dict[str, dict[str, int]] = {}
        self._texts: dict[str, dict[Words, str]] = {}
        for fact, texts in zip(FACTS, values, strict=True):
            self._numbers[fact] = {codecs.sentence(text): i for i, text in enumerate(texts)}
            self._texts[fact] = {_form(" ".join(text)): codecs.sentence(text) for text in texts}
        self._longest = max(len(NAME), *(len(words) for texts in self._texts.values() for words in texts))

    def read(self, question: str) -> Route:
        """The way of a question. "none" where no form fits, a name or value is unknown, or it can mean two things."""
        words = self._words(question)
        if not 0 < len(words) <= MOST:
            return Route("none", f"a question has 1 to {MOST} words, and this has {len(words)}")
        routes = {
            Route(way, what, tuple((slot, self._text(slot, said) or "") for slot, said in found), wording)
            for form, way, what, wording in self.forms
            for found in self._matches(form, words, lambda slot, said: self._text(slot, said) is not None)
        }
        if len(routes) == 1:
            return routes.pop()
        return Route("none", "it can be read in more than one way" if routes else self._reason(question, words))

    def texts(self, fact: str) -> dict[str, int]:
        """All values that a fact can have, with their numbers in the list."""
        return self._numbers[fact]

    def _words(self, text: str) -> Words:
        """In lower case, without commas and the mark at the end."""
        words = [word for word in codecs.split(text.lower().replace("\u2019", "'"), self._known) if word != ","]
        while words and words[-1] in ("?", "."):
            words.pop()
        return tuple(words)

    def _text(self, slot: str, said: Words) -> str | None:
        """What words in a slot mean, as the lists write it; None for what they do not have."""
        if slot in self._texts:
            return self._texts[slot].get(said)
        if len(said) != len(NAME):
            return None
        parts = [names.get(word) for names, word in zip(self._names, said, strict=True)]
        return None if None in parts else " ".join(map(str, parts))

    def _matches(self, form: Words, words: Words, fits: Callable[[str, Words], bool]) -> Iterator[Found]:
        """The ways in which words have a form, whose slots hold what fits them."""
        if not form:
            if not words:
                yield ()
            return
        part, rest = form[0], form[1:]
        if part in RULES:
            for instead in RULES[part]:
                yield from self._matches((*instead, *rest), words, fits)
        elif part.startswith("{"):
            for size in range(1, min(len(words), self._longest) + 1):
                if fits(part[1:-1], words[:size]):
                    for more in self._matches(rest, words[size:], fits):
                        yield ((part[1:-1], words[:size]), *more)
        elif words and words[0] == part:
            yield from self._matches(rest, words[1:], fits)

    def _reason(self, question: str, words: Words) -> str:
        """Why a question cannot be read: a name or value in it is unknown, or all of it."""
        for form, *_ in self.forms:
            for found in self._matches(form, words, lambda slot, said: True):
                slot, said = next((slot, said) for slot, said in found if self._text(slot, said) is None)
                there = re.search(r"\W*".join(map(re.escape, said)), question, re.IGNORECASE)
                what = "nobody's full name" if slot in ("name", "other") else f"no {slot.replace('_', ' ')}"
                return f"{there[0] if there else ' '.join(said)!r} is {what} here"
        return "no question that is known has this wording"


Form = tuple[Words, Way, str, int]


def _forward(people: BioS) -> Iterator[Form]:
    """All wordings of the pool, also those that the task was not trained with."""
    for fact, wordings in zip(FACTS, load(people.pools).questions, strict=True):
        for number, words in enumerate(wordings):
            yield _form(" ".join(words).replace("{o}", "{name}").replace("{p}", "{name} 's")), "model", fact, number


def _worked_out() -> Iterator[Form]:
    for name, question in WORKED_OUT.items():
        yield _form(question.text), "steps", name, 0


def _inverse() -> Iterator[Form]:
    for head, what in HEADS.items():
        yield (*head.split(), "{facts}"), "database", what, 0


def _form(text: str) -> Words:
    """The words of a template as they are compared: in lower case, without commas and the question mark."""
    return tuple(word.lower() for word in text.split() if word not in (",", "?"))
