"""A routed system against its model alone: claim 3.13 of the ledger, and how often the router goes the right way.

The same questions about the same held-out people (probing/routed_qa/test_questions.py) are put to the system in words
and to the model as it was trained to be asked (Part 3.1, arXiv 2309.14316; Part 3.2, arXiv 2309.14402).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probing.knowledge.extraction import EVERY, Half, check_people, share
from probing.knowledge.qa_data import questions_of
from probing.routed_qa.database import FACTS
from probing.routed_qa.router import WAYS
from probing.routed_qa.system import Answer, Asked, KnowledgeSystem, sentences
from probing.routed_qa.test_questions import KINDS, Examination, Item
from probing.scoring.metrics import proportion_interval
from synth.corpus import mean_length
from synth.task import Task

if TYPE_CHECKING:
    from lm.model import Decoder

SYSTEM, BARE = "system", "bare model"
MORE = 8  # tokens that a model may write beyond the longest fact or pair of facts


@dataclass(frozen=True)
class SystemComparison:
    """people: how many of the half are asked about, in every question once (None: all); half: as in Extraction."""

    people: int | None = 200
    half: Half = "second"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_people(self.people)

    def tokens(self, task: Task) -> int:
        """About how many tokens the model reads and writes: every question once, and a fact asked for each of them."""
        asked = questions_of(task, self.half)
        people = min(self.people or asked.people, asked.span[1] - asked.span[0])
        questions = 6 + sum(map(len, KINDS.values()))
        return int(2 * people * questions * mean_length(asked, "test"))

    def measure(self, model: "Decoder", task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each kind, question (and "all" of a kind) and who answers: "system", or "bare model" where it can
        be asked.

        accuracy: the share of right answers, with its 95% interval over people; a question who has some facts is
        answered rightly by naming one or more people, all of whom have them, one without an answer by saying so.
        extracted: the share of questions for which each fact that it takes is what the database (inverse questions of
        the system: all facts of the person) or the model, asked for it by itself, has; given, given_n: accuracy among
        those, and how many. For the system also the confusion of its router: way, the way to go; routed: the share
        that went there; routed_model, routed_database, routed_steps, routed_none: how many went where. n questions.

        Raises UserError as KnowledgeSystem does, and for a vocabulary without the words of Part 3.2.
        """
        examination = Examination(task, data_seed, self.half, self.people)
        system, items = KnowledgeSystem(model, task, data_seed), list(examination.items())
        answers = system.answers([item.text for item in items])
        told = _told(system, examination, items)
        read = {person: _read(system, examination, person) for person in examination.people}
        known = [read[item.person] if item.kind == "inverse" else told[i] for i, item in enumerate(items)]
        right = [
            _right(item, answer.text if answer.given else None) for item, answer in zip(items, answers, strict=True)
        ]
        rows = [row | _confusion(among, answers) for among, row in _rows(SYSTEM, items, right, known)]
        asked = [i for i, item in enumerate(items) if item.prompt is not None]
        alone = [items[i] for i in asked]
        said = _bare(system, alone)
        judged = [_right(item, text) for item, text in zip(alone, said, strict=True)]
        return rows + [row for _, row in _rows(BARE, alone, judged, [told[i] for i in asked])]


# ---- answers ---------------------------------------------------------------------------------------------------
def _bare(system: KnowledgeSystem, items: Sequence[Item]) -> list[str | None]:
    """The model's own answers; None where it does not get to a full stop."""
    from lm.inference.sampling import generate

    people, room = system.people, 2 * system.room + MORE
    eos = people.vocab().eos
    prompts = [item.prompt for item in items if item.prompt is not None]
    written = generate(system.model, prompts, room, 0.0, eos, batch=512, progress=lambda *_: None)
    said = [sentences(people, ids)[int(item.hinted) :] for ids, item in zip(written, items, strict=True)]
    return [found[0] if found else None for found in said]


def _right(item: Item, text: str | None) -> bool:
    """Whether an answer (None: there is none) is right."""
    if text is None or not item.right:
        return text is None and not item.right
    return all(part in item.right for part in (text.split("; ") if item.way == "database" else [text]))


def _told(system: KnowledgeSystem, examination: Examination, items: Sequence[Item]) -> list[bool]:
    """Whether the model, asked by itself for each fact that a question takes, tells all of them rightly."""
    needs = [(i, who, fact) for i, item in enumerate(items) for who, fact in item.needs]
    asked = [Asked(examination.name(who), FACTS.index(fact)) for _, who, fact in needs]
    found = [True] * len(items)
    for (i, who, fact), said in zip(needs, system.told(asked), strict=True):
        found[i] &= said == examination.fact(who, fact)
    return found


def _read(system: KnowledgeSystem, examination: Examination, person: int) -> bool:
    """Whether the database has all facts of a person as they are."""
    truth = tuple(examination.fact(person, fact) for fact in FACTS)
    return system.database.facts(examination.name(person).split()) == truth


# ---- rows ------------------------------------------------------------------------------------------------------
def _rows(
    who: str, items: Sequence[Item], right: Sequence[bool], known: Sequence[bool]
) -> list[tuple[dict[int, Item], dict[str, Any]]]:
    """The items (by number) and the row of every kind and question."""
    groups: dict[tuple[str, str], dict[int, Item]] = defaultdict(dict)
    for i, item in enumerate(items):
        groups[item.kind, EVERY][i] = groups[item.kind, item.question][i] = item
    rows = []
    for (kind, question), among in groups.items():
        numbers = list(among)
        hits, facts = np.array(right)[numbers], np.array(known)[numbers]
        row = {"kind": kind, "question": question, "who": who, "n": len(numbers)}
        row |= _accuracy(hits, np.array([item.person for item in among.values()]))
        row |= {"extracted": float(facts.mean()), "given_n": int(facts.sum())}
        rows.append((among, row | {"given": float(hits[facts].mean()) if facts.any() else float("nan")}))
    return rows


def _accuracy(hits: np.ndarray, people: np.ndarray) -> dict[str, float]:
    """With its interval over people; where all answers are alike they spread nothing, and count once for a person."""
    row = dict(share("accuracy", hits, people))
    if hits.all() or not hits.any():
        n = len(np.unique(people))
        row["accuracy_low"], row["accuracy_high"] = proportion_interval(n * int(hits.all()), n)
    return row


def _confusion(items: dict[int, Item], answers: Sequence[Answer]) -> dict[str, Any]:
    """Where the router sent these questions."""
    went, ways = [answers[i].way for i in items], {item.way for item in items.values()}
    row: dict[str, Any] = {"way": ways.pop() if len(ways) == 1 else "several"}
    row["routed"] = float(np.mean([way == item.way for way, item in zip(went, items.values(), strict=True)]))
    return row | {f"routed_{way}": went.count(way) for way in WAYS}
