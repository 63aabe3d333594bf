"""Facts of the real world, the questions about them, and the names by which answers are known.

data/facts.csv holds public facts that do not change: a kind of thing, a subject, an attribute, its value, and whether
the value leads back to one subject ("unique") or not ("several"). Presidents who served twice with a pause have no
number of their own and are left out, as are symbols that are English words (He, In, No, ...) and capitals that are in
dispute, share their country's name or are about to move. data/aliases.csv holds other spellings.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

FOLDER = Path(__file__).parent / "data"


@dataclass(frozen=True)
class WorldFact:
    """A line of facts.csv; unique: whether the value leads back to the subject."""

    kind: str
    subject: str
    attribute: str
    value: str
    unique: bool


@dataclass(frozen=True)
class Relation:
    """How an attribute is asked about; None where such a question makes no sense. initial: values are classified and
    compared by their first letter, not as numbers; people: the last name is enough where only one candidate has it;
    cased: values (or, with "subject", subjects) that are also common words unless capitals are minded."""

    kind: str
    attribute: str
    retrieve: str
    invert: str | None = None
    classify: str | None = None
    compare: str | None = None
    initial: bool = False
    people: str | None = None
    cased: str | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.attribute}"

    def rank(self, value: str) -> int:
        """What values are compared by: themselves, or the place of the first letter in the alphabet (A is 1)."""
        return ord(" ".join(words(value))[0]) - ord("a") + 1 if self.initial else int(value)

    def holds(self, value: str) -> bool:
        """Whether the value is in the class: an even number, or one of the letters A to M."""
        return self.rank(value) <= 13 if self.initial else self.rank(value) % 2 == 0


_ORDER = "in the order of the presidents of the United States"
RELATIONS = (
    Relation(
        "element", "atomic number", "What is the atomic number of {subject}?",
        "Which chemical element has the atomic number {value}?", "Is the atomic number of {subject} even?",
        "Is the atomic number of {subject} larger than that of {other}?",
    ),
    Relation(
        "element", "symbol", "What is the chemical symbol of {subject}?",
        "Which chemical element has the symbol {value}?", cased="value",
    ),
    Relation(
        "country", "capital", "What is the capital of {subject}?", "Which country has {value} as its capital?",
        "Does the name of the capital of {subject} begin with a letter from A to M?",
        "Does the name of the capital of {subject} begin with a later letter of the alphabet than that of {other}?",
        initial=True,
    ),
    Relation("book", "author", 'Who wrote the book "{subject}"?', people="value"),
    Relation(
        "book", "year", 'In which year was the book "{subject}" first published?', None,
        'Was the book "{subject}" first published in an even year?',
        'Was the book "{subject}" first published in a later year than "{other}"?',
    ),
    Relation(
        "president", "number", f"What is the number of {{subject}} {_ORDER}?", f"Who is number {{value}} {_ORDER}?",
        f"Is the number of {{subject}} {_ORDER} even?",
        "Did {subject} become president of the United States after {other}?", people="subject",
    ),
    Relation(
        "planet", "number", "What is the number of the planet {subject}, counted from the Sun?",
        "Which planet has the number {value}, counted from the Sun?",
        "Is the number of the planet {subject}, counted from the Sun, even?",
        "Is the planet {subject} farther from the Sun than {other}?",
    ),
    Relation(
        "month", "number", "What is the number of the month {subject} in the year?",
        "Which month has the number {value} in the year?", "Is the number of the month {subject} in the year even?",
        "Does the month {subject} come later in the year than {other}?", cased="subject",
    ),
)  # fmt: skip


@cache
def facts() -> tuple[WorldFact, ...]:
    """All of facts.csv, in its order."""
    with open(FOLDER / "facts.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        WorldFact(row["kind"], row["subject"], row["attribute"], row["value"], row["inverse"] == "unique")
        for row in rows
    )


def facts_of(relation: Relation) -> list[WorldFact]:
    """The facts of one kind and attribute."""
    return [fact for fact in facts() if (fact.kind, fact.attribute) == (relation.kind, relation.attribute)]


def words(text: str, cased: bool = False) -> tuple[str, ...]:
    """The words and numbers of a text without accents, apostrophes and marks; "16th" is 16, and 55.8 one number."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = re.sub("['\u2018\u2019]", "", plain if cased else plain.casefold())
    found = re.findall(r"\d+(?:[.,]\d+)+|[^\W_]+", plain)
    return tuple(re.sub(r"^(\d+)(?:st|nd|rd|th)$", r"\1", word) for word in found)


@dataclass(frozen=True)
class Names:
    """What an answer may name. candidates: names; cased: whether capitals are minded within a sentence; people: whether
    the last name is enough where only one has it."""

    candidates: tuple[str, ...]
    cased: bool = False
    people: bool = False

    @cached_property
    def _within(self) -> dict[tuple[str, ...], str]:
        return {words(form, self.cased): name for form, name in self._forms()}

    @cached_property
    def _whole(self) -> dict[tuple[str, ...], str]:
        return {words(form): name for form, name in self._forms()}

    def _forms(self) -> Iterable[tuple[str, str]]:
        last = Counter(name.split()[-1] for name in self.candidates)
        for name in self.candidates:
            yield from ((form, name) for form in (name, *_aliases().get(name, ())))
            if self.people and last[name.split()[-1]] == 1:
                yield name.split()[-1], name

    def whole(self, text: str) -> str | None:
        """The candidate that the text is, but for case, accents and marks."""
        return self._whole.get(words(text))

    def mentioned(self, text: str) -> set[str]:
        """The candidates in a text; of names within names ("Guinea" in "Papua New Guinea") the longest alone."""
        left, found = words(text, self.cased), set()
        longest = max(map(len, self._within))
        while left:
            size = next((n for n in range(longest, 0, -1) if left[:n] in self._within), 0)
            if size:
                found.add(self._within[left[:size]])
            left = left[size or 1 :]
        return found


@cache
def values_of(relation: Relation) -> Names:
    """What a question after a value may be answered with."""
    found = dict.fromkeys(fact.value for fact in facts_of(relation))
    return Names(tuple(found), relation.cased == "value", relation.people == "value")


@cache
def subjects_of(relation: Relation) -> Names:
    """What a question after a subject may be answered with."""
    found = tuple(fact.subject for fact in facts_of(relation))
    return Names(found, relation.cased == "subject", relation.people == "subject")


@cache
def _aliases() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with open(FOLDER / "aliases.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["name"], []).append(row["also"])
    return found
