"""Real-world facts, templates of questions about them, and the names that are recognised in answers.

data/facts.csv holds public facts that do not change: kind, subject, attribute, value, and whether the value determines
the subject ("unique") or not ("several"). Left out: presidents with two separate terms, who have no single number;
symbols that are English words (He, In, No, ...); capitals that are disputed, share their country's name or are about to
move. data/aliases.csv holds alternative spellings.
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
    """A line of facts.csv; unique: whether the value determines the subject."""

    kind: str
    subject: str
    attribute: str
    value: str
    unique: bool


@dataclass(frozen=True)
class Relation:
    """Templates of the questions about one attribute of a kind; None: no such question.

    initial: values are classified and compared by their first letter, not as numbers. last_name_suffices,
    case_sensitive: "value" or "subject", whichever they hold for: a unique last name is accepted; names are common
    words unless capitalised.
    """

    kind: str
    attribute: str
    retrieve: str
    invert: str | None = None
    classify: str | None = None
    compare: str | None = None
    initial: bool = False
    last_name_suffices: str | None = None
    case_sensitive: str | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.attribute}"

    def sort_key(self, value: str) -> int:
        """The number by which values are compared: the value, or the index of its first letter (A is 1)."""
        return ord(" ".join(normalize_words(value))[0]) - ord("a") + 1 if self.initial else int(value)

    def is_in_class(self, value: str) -> bool:
        """Whether the answer to the classification question is Yes: an even number, or a first letter from A to M."""
        return self.sort_key(value) <= 13 if self.initial else self.sort_key(value) % 2 == 0


_ORDER = "in the order of the presidents of the United States"
RELATIONS = (
    Relation(
        "element", "atomic number", "What is the atomic number of {subject}?",
        "Which chemical element has the atomic number {value}?", "Is the atomic number of {subject} even?",
        "Is the atomic number of {subject} larger than that of {other}?",
    ),
    Relation(
        "element", "symbol", "What is the chemical symbol of {subject}?",
        "Which chemical element has the symbol {value}?", case_sensitive="value",
    ),
    Relation(
        "country", "capital", "What is the capital of {subject}?", "Which country has {value} as its capital?",
        "Does the name of the capital of {subject} begin with a letter from A to M?",
        "Does the name of the capital of {subject} begin with a later letter of the alphabet than that of {other}?",
        initial=True,
    ),
    Relation("book", "author", 'Who wrote the book "{subject}"?', last_name_suffices="value"),
    Relation(
        "book", "year", 'In which year was the book "{subject}" first published?', None,
        'Was the book "{subject}" first published in an even year?',
        'Was the book "{subject}" first published in a later year than "{other}"?',
    ),
    Relation(
        "president", "number", f"What is the number of {{subject}} {_ORDER}?", f"Who is number {{value}} {_ORDER}?",
        f"Is the number of {{subject}} {_ORDER} even?",
        "Did {subject} become president of the United States after {other}?", last_name_suffices="subject",
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
        "Does the month {subject} come later in the year than {other}?", case_sensitive="subject",
    ),
)  # fmt: skip


@cache
def load_facts() -> tuple[WorldFact, ...]:
    """The facts of facts.csv, in the order of the file."""
    with open(FOLDER / "facts.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        WorldFact(row["kind"], row["subject"], row["attribute"], row["value"], row["inverse"] == "unique")
        for row in rows
    )


def facts_of(relation: Relation) -> list[WorldFact]:
    """The facts of one kind and attribute."""
    return [fact for fact in load_facts() if (fact.kind, fact.attribute) == (relation.kind, relation.attribute)]


def normalize_words(text: str, case_sensitive: bool = False) -> tuple[str, ...]:
    """The words and numbers of a text, without accents, apostrophes and punctuation, and in lower case unless
    case_sensitive; "16th" becomes 16, and 55.8 is one number."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    plain = re.sub("['\u2018\u2019]", "", plain if case_sensitive else plain.casefold())
    words = re.findall(r"\d+(?:[.,]\d+)+|[^\W_]+", plain)
    return tuple(re.sub(r"^(\d+)(?:st|nd|rd|th)$", r"\1", word) for word in words)


@dataclass(frozen=True)
class CandidateNames:
    """The names that may answer a question. case_sensitive: applies to mentions within a sentence. last_name_suffices:
    a last name that only one candidate has is accepted."""

    candidates: tuple[str, ...]
    case_sensitive: bool = False
    last_name_suffices: bool = False

    @cached_property
    def _names_by_words(self) -> dict[tuple[str, ...], str]:
        return {normalize_words(form, self.case_sensitive): name for form, name in self._spellings()}

    @cached_property
    def _names_by_whole_text(self) -> dict[tuple[str, ...], str]:
        return {normalize_words(form): name for form, name in self._spellings()}

    def _spellings(self) -> Iterable[tuple[str, str]]:
        last = Counter(name.split()[-1] for name in self.candidates)
        for name in self.candidates:
            yield from ((form, name) for form in (name, *_aliases().get(name, ())))
            if self.last_name_suffices and last[name.split()[-1]] == 1:
                yield name.split()[-1], name

    def match_whole(self, text: str) -> str | None:
        """The candidate that equals the text up to case, accents and punctuation, else None."""
        return self._names_by_whole_text.get(normalize_words(text))

    def find_mentions(self, text: str) -> set[str]:
        """The candidates mentioned in a text; of nested names ("Guinea" in "Papua New Guinea") only the longest."""
        words, mentions = normalize_words(text, self.case_sensitive), set()
        longest = max(map(len, self._names_by_words))
        while words:
            size = next((n for n in range(longest, 0, -1) if words[:n] in self._names_by_words), 0)
            if size:
                mentions.add(self._names_by_words[words[:size]])
            words = words[size or 1 :]
        return mentions


@cache
def value_candidates(relation: Relation) -> CandidateNames:
    """The possible answers to a question for a value of this relation."""
    values = dict.fromkeys(fact.value for fact in facts_of(relation))
    return CandidateNames(tuple(values), relation.case_sensitive == "value", relation.last_name_suffices == "value")


@cache
def subject_candidates(relation: Relation) -> CandidateNames:
    """The possible answers to a question for a subject of this relation."""
    subjects = tuple(fact.subject for fact in facts_of(relation))
    return CandidateNames(subjects, relation.case_sensitive == "subject", relation.last_name_suffices == "subject")


@cache
def _aliases() -> dict[str, list[str]]:
    aliases: dict[str, list[str]] = {}
    with open(FOLDER / "aliases.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            aliases.setdefault(row["name"], []).append(row["also"])
    return aliases
