"""The router: decides from the text of a question whether the model, the database or computed steps answer it.

It matches templates, the wordings of questions about bioS (synth/bio/data/questions.txt, and those of Part 3.2, arXiv
2309.14402), with the lists of names and values of the people's world. A question that does not match exactly one
template gets the way "none" and the reason.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from probing.knowledge.qa_data import fill_person
from probing.routed_qa.database import FACT_COLUMNS
from synth.bio import codec as codecs
from synth.bio.manipulation import CLASSIFICATION, DUAL, NAME_PARTS, PARTIAL, RANKING, SUBTRACTION
from synth.bio.value_lists import load_value_lists
from synth.tasks.bios import BioS
from synth.vocab import Vocab

Way = Literal["model", "database", "steps", "none"]
WAYS: tuple[Way, ...] = ("model", "database", "steps", "none")
Words = tuple[str, ...]
SlotMatches = tuple[tuple[str, Words], ...]  # pairs of a slot and the words in it
COMPUTED_QUESTIONS = {**PARTIAL, **DUAL, **CLASSIFICATION, **RANKING, **SUBTRACTION}
MAX_WORDS = 100  # words of a question

# Inverse questions: one of these heads and any sequence of these clauses, as in section 5 of the paper.
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
    """target: the attribute asked for (way "model"), the question of Part 3.2 ("steps"), "name" or "first"
    ("database"), or the reason ("none"). slots: names and facts in the question, as (slot, text). wording: index of the
    phrasing among those for the attribute."""

    way: Way
    target: str
    slots: tuple[tuple[str, str], ...] = ()
    wording: int = 0

    @property
    def names(self) -> list[str]:
        """The full names in the question."""
        return [text for slot, text in self.slots if slot in ("name", "other")]


class Router:
    """Routes questions about the people of a task, in any wording of the lists; case, spacing, commas and the question
    mark are ignored."""

    def __init__(self, people: BioS) -> None:
        self.templates = [*_retrieval_templates(people), *_computed_templates(), *_inverse_templates()]
        vocab, rows, bases = people.lexicon.vocab, people.lexicon.values.rows, people.lexicon.value_offsets.tolist()
        spans = zip(bases, [*bases[1:], len(rows)], strict=True)
        values = [[vocab.decode(row) for row in rows[start:stop]] for start, stop in spans]
        lists = people.value_lists
        words = [*vocab.symbols, *(word for form, *_ in self.templates for word in form if word not in RULES)]
        self._vocab = Vocab(tuple(dict.fromkeys(word.lower() for word in words)))
        self._names = [{name.lower(): name for name in part} for part in (lists.first, lists.middle, lists.last)]
        self._value_indices: dict[str, dict[str, int]] = {}
        self._texts: dict[str, dict[Words, str]] = {}
        for fact, texts in zip(FACT_COLUMNS, values, strict=True):
            self._value_indices[fact] = {codecs.join_words(text): i for i, text in enumerate(texts)}
            self._texts[fact] = {_normalize_template(" ".join(text)): codecs.join_words(text) for text in texts}
        self._longest = max(len(NAME_PARTS), *(len(words) for texts in self._texts.values() for words in texts))

    def route(self, question: str) -> Route:
        """The route of a question; way "none" if no template matches, a name or value is unknown, or it is
        ambiguous."""
        words = self._words(question)
        if not 0 < len(words) <= MAX_WORDS:
            return Route("none", f"a question has 1 to {MAX_WORDS} words, and this has {len(words)}")
        routes = {
            Route(way, target, tuple((slot, self._resolve_slot(slot, text) or "") for slot, text in matches), wording)
            for template, way, target, wording in self.templates
            for matches in self._match(template, words, lambda slot, text: self._resolve_slot(slot, text) is not None)
        }
        if len(routes) == 1:
            return routes.pop()
        reason = "it can be read in more than one way" if routes else self._explain_failure(question, words)
        return Route("none", reason)

    def value_indices(self, fact: str) -> dict[str, int]:
        """The index of each possible value of a fact in its list."""
        return self._value_indices[fact]

    def _words(self, text: str) -> Words:
        """The words in lower case, without commas and punctuation at the end."""
        words = [word for word in codecs.split_words(text.lower().replace("\u2019", "'"), self._vocab) if word != ","]
        while words and words[-1] in ("?", "."):
            words.pop()
        return tuple(words)

    def _resolve_slot(self, slot: str, words: Words) -> str | None:
        """The value or name in a slot, as written in the lists; None if it is not in them."""
        if slot in self._texts:
            return self._texts[slot].get(words)
        if len(words) != len(NAME_PARTS):
            return None
        parts = [names.get(word) for names, word in zip(self._names, words, strict=True)]
        return None if None in parts else " ".join(map(str, parts))

    def _match(self, template: Words, words: Words, accept: Callable[[str, Words], bool]) -> Iterator[SlotMatches]:
        """All ways in which the words match a template, with words in its slots that accept(slot, words) allows."""
        if not template:
            if not words:
                yield ()
            return
        part, rest = template[0], template[1:]
        if part in RULES:
            for expansion in RULES[part]:
                yield from self._match((*expansion, *rest), words, accept)
        elif part.startswith("{"):
            for size in range(1, min(len(words), self._longest) + 1):
                if accept(part[1:-1], words[:size]):
                    for matches in self._match(rest, words[size:], accept):
                        yield ((part[1:-1], words[:size]), *matches)
        elif words and words[0] == part:
            yield from self._match(rest, words[1:], accept)

    def _explain_failure(self, question: str, words: Words) -> str:
        """Why a question matches no template: a name or value in it is unknown, or its wording is."""
        for template, *_ in self.templates:
            for matches in self._match(template, words, lambda slot, text: True):
                slot, text = next((slot, text) for slot, text in matches if self._resolve_slot(slot, text) is None)
                original = re.search(r"\W*".join(map(re.escape, text)), question, re.IGNORECASE)
                problem = "nobody's full name" if slot in ("name", "other") else f"no {slot.replace('_', ' ')}"
                return f"{original[0] if original else ' '.join(text)!r} is {problem} here"
        return "no question that is known has this wording"


Template = tuple[Words, Way, str, int]


def _retrieval_templates(people: BioS) -> Iterator[Template]:
    """All wordings of the value lists, also those that the task does not use in training."""
    for fact, wordings in zip(FACT_COLUMNS, load_value_lists(people.pools).questions, strict=True):
        for number, words in enumerate(wordings):
            yield _normalize_template(fill_person(words, "{name}")), "model", fact, number


def _computed_templates() -> Iterator[Template]:
    for name, question in COMPUTED_QUESTIONS.items():
        yield _normalize_template(question.text), "steps", name, 0


def _inverse_templates() -> Iterator[Template]:
    for head, target in HEADS.items():
        yield (*head.split(), "{facts}"), "database", target, 0


def _normalize_template(text: str) -> Words:
    """The words of a template in lower case, without commas and question marks."""
    return tuple(word.lower() for word in text.split() if word not in (",", "?"))
