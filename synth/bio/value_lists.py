"""Lists of names, values and sentences for biographies, with the sizes of Part 3.1 (arXiv 2309.14316), section 2.1.

They are read from synth/bio/data or another folder of the same files: one entry a line, comments after `#`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from math import prod
from pathlib import Path

from synth.errors import UserError

ATTRIBUTES = ("birth date", "birth city", "university", "major", "employer", "employer city")
NO_SPACE_BEFORE = (".", ",", "'s", "?", ";", ":")
PERSON_SLOTS = ("{S}", "{s}", "{P}", "{p}", "{o}")
VALUE_SLOT = "{V}"
LISTS = ("first", "middle", "last", "cities", "universities", "majors", "employers")
FOLDER = Path(__file__).parent / "data"
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


@dataclass(frozen=True)
class ValueLists:
    """Names, values and sentences in use.

    employer_cities[i] is the city of employers[i]; templates and questions hold the sentences of each of ATTRIBUTES, as
    tuples of words; calendar: numbers of years (from 1900), months and days.
    """

    first: tuple[str, ...]
    middle: tuple[str, ...]
    last: tuple[str, ...]
    cities: tuple[str, ...]
    universities: tuple[str, ...]
    majors: tuple[str, ...]
    employers: tuple[str, ...]
    employer_cities: tuple[str, ...]
    templates: tuple[tuple[tuple[str, ...], ...], ...]
    questions: tuple[tuple[tuple[str, ...], ...], ...]
    calendar: tuple[int, int, int] = (200, 12, 28)

    @property
    def names(self) -> int:
        """Number of full names, N0."""
        return len(self.first) * len(self.middle) * len(self.last)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Numbers of birth dates, birth cities, universities, majors and employers."""
        return (prod(self.calendar), *(len(getattr(self, name)) for name in LISTS[3:]))  # type: ignore[return-value]

    def truncate(
        self, years: int, months: int, days: int, templates: int, questions: int, **sizes: int
    ) -> "ValueLists":
        """The first entries of each list; sizes by list name, templates and questions per attribute.

        Raises UserError if a list is shorter.
        """
        least = {"questions": 0}
        have = {
            **{name: len(getattr(self, name)) for name in LISTS},
            **{"years": 8000, "months": len(MONTHS), "days": 28},
            **{name: min(map(len, getattr(self, name))) for name in ("templates", "questions")},
        }
        wanted = {"years": years, "months": months, "days": days, "templates": templates, "questions": questions}
        for name, size in {**wanted, **sizes}.items():
            if not least.get(name, 1) <= size <= have[name]:
                raise UserError(f"bioS: {name}={size} must be {least.get(name, 1)} to {have[name]}")
        lists = {name: getattr(self, name)[:size] for name, size in sizes.items()}
        cities = self.employer_cities[: sizes["employers"]]
        return replace(
            self, **lists, employer_cities=cities, calendar=(years, months, days),
            templates=tuple(sentences[:templates] for sentences in self.templates),
            questions=tuple(sentences[:questions] for sentences in self.questions),
        )  # fmt: skip


def tokenize(text: str) -> tuple[str, ...]:
    """Words and commas of a text: "Reno, NV" has three."""
    return tuple(text.replace(",", " , ").split())


@cache
def load_value_lists(folder: str | None = None) -> ValueLists:
    """The lists of a folder (None: the built-in ones). Raises UserError for malformed or ambiguous entries."""
    home = FOLDER if folder is None else Path(folder)
    lists = {name: _lines(home / f"{name}.txt") for name in ("first", "middle", "last")}
    for name, entries in lists.items():
        wide = next((entry for entry in entries if len(tokenize(entry)) > 1), None)
        if wide:
            raise UserError(f"{home / name}.txt: the name {wide!r} is more than one word; names are one token each")
    values = {name: _lines(home / f"{name}.txt") for name in ("cities", "universities", "majors")}
    works = [tuple(part.strip() for part in line.split("|")) for line in _lines(home / "employers.txt")]
    bad = next((work for work in works if len(work) != 2), None)
    if bad:
        raise UserError(f"{home}/employers.txt: {' | '.join(bad)!r} needs one city: Name | City, ST")
    _check_values(home, {**lists, **values, "employers": [work[0] for work in works]})
    _check_readable(home, [*chain(*lists.values(), *values.values()), *chain(*works)])
    first, middle, last, cities, universities, majors = (tuple(rows) for rows in (*lists.values(), *values.values()))
    return ValueLists(
        first, middle, last, cities, universities, majors,
        employers=tuple(work[0] for work in works),
        employer_cities=tuple(work[1] for work in works),
        templates=_sentences(home / "templates.txt", question=False),
        questions=_sentences(home / "questions.txt", question=True),
    )  # fmt: skip


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the pool {path}: {error}; give a folder with the files of {FOLDER}") from None
    return [line.strip() for line in text.split("\n") if line.strip() and not line.startswith("#")]


def _check_values(home: Path, lists: dict[str, list[str]]) -> None:
    for name, entries in lists.items():
        value, count = Counter(tokenize(entry) for entry in entries).most_common(1)[0]
        if count > 1:
            raise UserError(f"{home}/{name}.txt: {' '.join(value)!r} stands {count} times; values must not collide")
        stop = next((entry for entry in entries if "." in tokenize(entry) or "?" in tokenize(entry)), None)
        if stop:
            raise UserError(f"{home}/{name}.txt: {stop!r} has a token that ends sentences; write it without")


def _check_readable(home: Path, entries: Iterable[str]) -> None:
    """Raise UserError if a text has two readings: of "Lowe's" as a name with 's and as an employer."""
    words = {word for entry in entries for word in tokenize(entry)}
    for mark in NO_SPACE_BEFORE:
        both = next((word for word in sorted(words) if word + mark in words), None)
        if both:
            raise UserError(
                f"{home}: {both!r} and {both + mark!r} are both in the lists, and {mark} is also written after other "
                "words, so that texts have two readings; write one of them otherwise"
            )


def _sentences(path: Path, question: bool) -> tuple[tuple[tuple[str, ...], ...], ...]:
    sections: dict[str, list[tuple[str, ...]]] = {name: [] for name in ATTRIBUTES}
    current = None
    for line in _lines(path):
        if line.startswith("["):
            current = line.strip("[]")
            if current not in sections:
                raise UserError(f"{path}: no attribute {line}; the attributes: {', '.join(ATTRIBUTES)}")
            continue
        words = tuple(line.split())
        if current is None or not _well_formed(words, question):
            mend = "one of {o} {p} and '?' at the end" if question else "one person, then one {V}, and '.' at the end"
            raise UserError(f"{path}: {line!r} must stand under an [attribute] and have {mend}")
        sections[current].append(words)
    _check_distinguishable(path, sections)
    empty = next((name for name, sentences in sections.items() if not sentences), None)
    if empty:
        raise UserError(f"{path}: [{empty}] has no sentence; write at least one")
    return tuple(tuple(sentences) for sentences in sections.values())


def _check_distinguishable(path: Path, sections: dict[str, list[tuple[str, ...]]]) -> None:
    """Raise UserError if a sentence occurs under two attributes, person slots aside."""
    owner: dict[tuple[str, ...], str] = {}
    for name, sentences in sections.items():
        for words in sentences:
            form = tuple("{o}" if word in PERSON_SLOTS else word for word in words)
            if form in owner:
                raise UserError(f"{path}: {' '.join(words)!r} stands under [{owner[form]}] and again under [{name}]")
            owner[form] = name


def _well_formed(words: tuple[str, ...], question: bool) -> bool:
    people = [i for i, word in enumerate(words) if word in (("{o}", "{p}") if question else PERSON_SLOTS)]
    values = [i for i, word in enumerate(words) if word == VALUE_SLOT]
    end = "?" if question else "."
    if len(people) != 1 or words.count(end) != 1 or words[-1] != end:
        return False
    return not values if question else len(values) == 1 and people[0] < values[0]
