"""The questions of Part 3.2 (arXiv 2309.14402, sections 2 to 5) and the rules of their answers.

A question consists of words and slots: a slot in braces is a fact of the person, or, with the prefix `other_`, of a
second person. A hint states the facts from which an answer is computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synth.bio.value_lists import ValueLists
from synth.errors import UserError
from synth.random.rng import rng

HINT, DIRECT = "<hint>", "<direct>"  # control tokens: state the facts first, or not
YES, NO = "Yes", "No"
NAME_PARTS = ("first", "middle", "last")
RESULT_SLOT = "{result}"


@dataclass(frozen=True)
class Question:
    """A question whose answer is a list of facts (answer), or is computed by `rule` from a quantity of each person.

    rule: "even"; "mod", the quantity modulo `modulus`; "number", the quantity itself; "later", whether it is larger
    than the other person's; "minus", the difference.
    """

    text: str
    answer: tuple[str, ...] = ()
    quantity: Literal["", "month", "day", "luck"] = ""
    rule: Literal["", "even", "mod", "number", "later", "minus"] = ""
    modulus: int = 0

    @property
    def pair(self) -> bool:
        """Whether the question is about two people."""
        return "{other}" in self.text

    @property
    def facts(self) -> tuple[str, ...]:
        """The facts that a hint states; none if the answer is not computed."""
        fact = {"": "", "luck": "major"}.get(self.quantity, self.quantity)
        return () if not fact else (fact, f"other_{fact}") if self.pair else (fact,)

    def prompt(self, hinted: bool) -> list[str]:
        """Words and slots up to the answer; a control token comes first if the answer is computed."""
        control = [HINT if hinted else DIRECT] if self.quantity else []
        return [*_slots(self.text.split()), *control, "Answer", ":"]

    def completion(self, hinted: bool) -> list[str]:
        """Words and slots of the hint, if there is one, and of the answer, each with a full stop."""
        hint = _list_facts(self.facts) if hinted and self.quantity else []
        return [*hint, *(_slots(_list_facts(self.answer)) if self.answer else [RESULT_SLOT, "."])]

    def result(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The computed answer (n,) from the quantities x and y (n,) of both people; 1 is yes, 0 is no."""
        if self.rule == "even":
            return (x % 2 == 0).astype(np.int64)
        if self.rule == "later":
            return (x > y).astype(np.int64)
        if self.rule == "minus":
            return x - y
        return x % self.modulus if self.rule == "mod" else x

    @property
    def yes_or_no(self) -> bool:
        """Whether the answer is Yes or No."""
        return self.rule in ("even", "later")


def _slots(words: Iterable[str]) -> list[str]:
    """The words, with each full name as three slots."""
    names = {"{name}": [f"{{{part}}}" for part in NAME_PARTS], "{other}": [f"{{other_{part}}}" for part in NAME_PARTS]}
    return [slot for word in words for slot in names.get(word, [word])]


def _list_facts(facts: Iterable[str]) -> list[str]:
    """Slots of the facts, separated by ";", and a full stop."""
    return [word for fact in facts for word in (f"{{{fact}}}", ";")][:-1] + ["."]


def _inverse() -> dict[str, Question]:
    """Questions for the first or full name, given one to six facts (section 5)."""
    born, both = "was born on {birth_date}", "was born on {birth_date} in {birth_city}"
    three = "studied {major} at {university} and worked for {employer}"
    descriptions = {
        "bdate": born,
        "birth": both,
        "three": three,
        "four": f"was born in {{birth_city}} , {three}",
        "all": f"{both} , {three} in {{employer_city}}",
    }
    answers = {"first": NAME_PARTS[:1], "full": ()}
    return {
        f"{facts}_to_{part}": Question(f"What is the {part} name of the person who {text} ?", answer or ("name",))
        for facts, text in descriptions.items()
        for part, answer in answers.items()
    }


PARTIAL = {
    "birth_day": Question("What is the birth day of {name} ?", ("day",)),
    "birth_year": Question("What is the birth year of {name} ?", ("year",)),
}
DUAL = {
    "birth_city+employer": Question("What are the birth city and the company of {name} ?", ("birth_city", "employer")),
    "employer+birth_city": Question("What are the company and the birth city of {name} ?", ("employer", "birth_city")),
    "university+major": Question("Which university and what major did {name} study ?", ("university", "major")),
    "major+university": Question("What major and which university did {name} study ?", ("major", "university")),
    "employer_city+employer": Question("Where and for which company did {name} work ?", ("employer_city", "employer")),
    "employer+employer_city": Question("Which company did {name} work for and where ?", ("employer", "employer_city")),
}
LUCK = "What is the luckiness of the major of {name}"
CLASSIFICATION = {
    "month_mod_2": Question("Was {name} born in an even month ?", (), "month", "even"),
    "month_mod_6": Question("What is the birth month of {name} modulo 6 ?", (), "month", "mod", 6),
    "month_mod_12": Question("What is the number of the birth month of {name} ?", (), "month", "number"),
    **{f"luck_mod_{p}": Question(f"{LUCK} modulo {p} ?", (), "luck", "mod", p) for p in (5, 20, 100)},
}
RANKING = {
    "month_rank": Question("Was {name} born in a later month of the year than {other} ?", (), "month", "later"),
    "day_rank": Question("Was {name} born on a later day of the month than {other} ?", (), "day", "later"),
    "luck_rank": Question("Did {name} major in a luckier field than {other} ?", (), "luck", "later"),
}
SUBTRACTION = {
    "month_minus": Question("What is the birth month of {name} minus that of {other} ?", (), "month", "minus"),
    "day_minus": Question("What is the birth day of {name} minus that of {other} ?", (), "day", "minus"),
    "luck_minus": Question(f"{LUCK} minus that of {{other}} ?", (), "luck", "minus"),
}
INVERSE = _inverse()
QUESTIONS = {**PARTIAL, **DUAL, **CLASSIFICATION, **RANKING, **SUBTRACTION, **INVERSE}
GROUPS: dict[str, tuple[str, ...]] = {
    "partial": tuple(PARTIAL),
    "dual": tuple(DUAL),
    "classification": tuple(CLASSIFICATION),
    "ranking": tuple(RANKING),
    "subtraction": tuple(SUBTRACTION),
    "inverse": tuple(INVERSE),
    "full_name": tuple(name for name in INVERSE if name.endswith("full")),
    "all": tuple(QUESTIONS),
}


def resolve_questions(name: str) -> tuple[str, ...]:
    """Names of the questions of a group, or the name of one question itself. Raises UserError for another name."""
    if name not in GROUPS and name not in QUESTIONS:
        raise UserError(f"question={name!r} is unknown; choose one of {', '.join((*GROUPS, *QUESTIONS))}")
    return GROUPS.get(name, (name,))


def luckiness(majors: int) -> np.ndarray:
    """Luckiness (majors,) of each major: a fixed random permutation of 0..majors-1."""
    return rng("luckiness", majors).permutation(majors)


def answer_range(value_lists: ValueLists) -> range:
    """All numbers that can be an answer."""
    largest = max(value_lists.calendar[1], value_lists.calendar[2], len(value_lists.majors))
    return range(1 - largest, largest + 1)


def question_words(value_lists: ValueLists) -> list[str]:
    """All words of questions and answers except facts."""
    lines = [line for q in QUESTIONS.values() for h in (True, False) for line in (q.prompt(h), q.completion(h))]
    fixed = [word for line in lines for word in line if not word.startswith("{")]
    return [*dict.fromkeys(fixed), YES, NO, *map(str, answer_range(value_lists))]


def guess_rates(question: Question, value_lists: ValueLists) -> tuple[float, float]:
    """Accuracy of the most likely answer and of the most likely hint (1 if there is none), for uniform facts."""
    if question.quantity:
        values = quantity_values(question.quantity, value_lists)
        x, y = (side.ravel() for side in np.meshgrid(values, values, indexing="ij"))
        counts = np.unique(question.result(x, y), return_counts=True)[1]
        return float(counts.max() / counts.sum()), float(len(values)) ** -len(question.facts)
    years, _, days = value_lists.calendar
    ways = {"day": days, "year": years, "first": len(value_lists.first), "name": value_lists.names}
    ways |= {
        "birth_city": len(value_lists.cities),
        "university": len(value_lists.universities),
        "major": len(value_lists.majors),
    }
    ways |= {"employer": len(value_lists.employers), "employer_city": 1}  # asked with the employer only
    return float(1 / np.prod([ways[fact] for fact in question.answer], dtype=float)), 1.0


def quantity_values(quantity: str, value_lists: ValueLists) -> np.ndarray:
    """The quantity of every month or day, or the luckiness of every major."""
    sizes = {"month": value_lists.calendar[1], "day": value_lists.calendar[2]}
    return luckiness(len(value_lists.majors)) if quantity == "luck" else np.arange(1, sizes[quantity] + 1)
