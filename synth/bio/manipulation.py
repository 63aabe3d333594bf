"""The questions of Part 3.2 (arXiv 2309.14402, sections 2 to 5): their words, and what follows from which facts.

A question is a line of words and slots; a slot in braces is a fact of the person asked about, or, with `other_` before
it, of the second one. Where an answer has to be worked out, a hint is the facts that it follows from, written out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synth.bio.value_lists import Pools
from synth.errors import UserError
from synth.random.rng import rng

HINT, DIRECT = "<hint>", "<direct>"  # the control token says whether the facts are to be written out first
YES, NO = "Yes", "No"
NAME = ("first", "middle", "last")
RESULT = "{result}"


@dataclass(frozen=True)
class Question:
    """text: the question. answer: the facts that are the answer, or, if there are none, rule: what is worked out from
    the number `over` of each person: is it "even" or "later" (larger) than the other's, what is it modulo `modulus`,
    the "number" itself, and "minus" the other's. A tie is not later."""

    text: str
    answer: tuple[str, ...] = ()
    over: Literal["", "month", "day", "luck"] = ""
    rule: Literal["", "even", "mod", "number", "later", "minus"] = ""
    modulus: int = 0

    @property
    def pair(self) -> bool:
        """Whether it is about two people."""
        return "{other}" in self.text

    @property
    def facts(self) -> tuple[str, ...]:
        """What a hint writes out: nothing, where nothing is worked out."""
        fact = {"": "", "luck": "major"}.get(self.over, self.over)
        return () if not fact else (fact, f"other_{fact}") if self.pair else (fact,)

    def prompt(self, hinted: bool) -> list[str]:
        """Words and slots up to the answer; the control token stands where a hint could."""
        control = [HINT if hinted else DIRECT] if self.over else []
        return [*_slots(self.text.split()), *control, "Answer", ":"]

    def completion(self, hinted: bool) -> list[str]:
        """Words and slots of the hint, if asked for, and the answer, each with a full stop."""
        hint = _listed(self.facts) if hinted and self.over else []
        return [*hint, *(_slots(_listed(self.answer)) if self.answer else [RESULT, "."])]

    def result(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """What is worked out (n,) from the numbers of the person and the other one; 1 is yes, 0 is no."""
        if self.rule == "even":
            return (x % 2 == 0).astype(np.int64)
        if self.rule == "later":
            return (x > y).astype(np.int64)
        if self.rule == "minus":
            return x - y
        return x % self.modulus if self.rule == "mod" else x

    @property
    def yes_or_no(self) -> bool:
        return self.rule in ("even", "later")


def _slots(words: Iterable[str]) -> list[str]:
    """The words, with a full name as three slots."""
    names = {"{name}": [f"{{{part}}}" for part in NAME], "{other}": [f"{{other_{part}}}" for part in NAME]}
    return [slot for word in words for slot in names.get(word, [word])]


def _listed(facts: Iterable[str]) -> list[str]:
    """Facts with ; between and a full stop after them."""
    return [word for fact in facts for word in (f"{{{fact}}}", ";")][:-1] + ["."]


def _inverse() -> dict[str, Question]:
    """Who is it, by first and by full name, given one to six facts (section 5)."""
    born, both = "was born on {birth_date}", "was born on {birth_date} in {birth_city}"
    three = "studied {major} at {university} and worked for {employer}"
    given = {
        "bdate": born,
        "birth": both,
        "three": three,
        "four": f"was born in {{birth_city}} , {three}",
        "all": f"{both} , {three} in {{employer_city}}",
    }
    asked = {"first": NAME[:1], "full": ()}
    return {
        f"{facts}_to_{part}": Question(f"What is the {part} name of the person who {text} ?", answer or ("name",))
        for facts, text in given.items()
        for part, answer in asked.items()
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


def named(name: str) -> tuple[str, ...]:
    """The questions of a group, or the one of this name. Raises UserError for neither."""
    if name not in GROUPS and name not in QUESTIONS:
        raise UserError(f"question={name!r} is unknown; choose one of {', '.join((*GROUPS, *QUESTIONS))}")
    return GROUPS.get(name, (name,))


def luckiness(majors: int) -> np.ndarray:
    """The fixed score 0..majors-1 of each major, in no order that its place in the list would give away."""
    return rng("luckiness", majors).permutation(majors)


def numbers(pools: Pools) -> range:
    """All numbers that an answer may be."""
    largest = max(pools.calendar[1], pools.calendar[2], len(pools.majors))
    return range(1 - largest, largest + 1)


def words_needed(pools: Pools) -> list[str]:
    """All words that the questions and their answers have beside facts."""
    lines = [line for q in QUESTIONS.values() for h in (True, False) for line in (q.prompt(h), q.completion(h))]
    fixed = [word for line in lines for word in line if not word.startswith("{")]
    return [*dict.fromkeys(fixed), YES, NO, *map(str, numbers(pools))]


def chance(question: Question, pools: Pools) -> tuple[float, float]:
    """How often the likeliest answer is right, and the likeliest hint (1 where none can be given), for people whose
    facts are uniform over the lists."""
    if question.over:
        values = values_of(question.over, pools)
        x, y = (side.ravel() for side in np.meshgrid(values, values, indexing="ij"))
        counts = np.unique(question.result(x, y), return_counts=True)[1]
        return float(counts.max() / counts.sum()), float(len(values)) ** -len(question.facts)
    years, _, days = pools.calendar
    ways = {"day": days, "year": years, "first": len(pools.first), "name": pools.names}
    ways |= {"birth_city": len(pools.cities), "university": len(pools.universities), "major": len(pools.majors)}
    ways |= {"employer": len(pools.employers), "employer_city": 1}  # which is asked only beside the employer
    return float(1 / np.prod([ways[fact] for fact in question.answer], dtype=float)), 1.0


def values_of(over: str, pools: Pools) -> np.ndarray:
    """The number of every value that a question may be about: of each month, day, or major in its list."""
    sizes = {"month": pools.calendar[1], "day": pools.calendar[2]}
    return luckiness(len(pools.majors)) if over == "luck" else np.arange(1, sizes[over] + 1)
