"""What a corpus says of its people, in an embedded database: asked where a model has no answer.

Finding who has a fact is what models fail at whatever their size (Part 3.2, arXiv 2309.14402, section 5) and what
databases are for. This one knows what can be read in the biographies that a model is trained on, and nothing else.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from synth.bio.codec import sentence
from synth.bio.manipulation import NAME
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus
from synth.errors import UserError
from synth.mixture import people_of
from synth.task import Task
from synth.tasks.bios import BioS

FACTS = tuple(name.replace(" ", "_") for name in ATTRIBUTES)
COLUMNS = (*NAME, *FACTS)
TELLINGS = 5  # who has not told everything in so many biographies has facts that cannot be read
Row = tuple[str | None, ...]


def read(task: Task, data_seed: int) -> list[Row]:
    """COLUMNS of everybody whom the training biographies of a task name, by what their texts say (BioS.read): None for
    a fact that no telling gives. Raises UserError for a task that is not about the people of bioS."""
    parts = [part for part in getattr(task, "parts", (task,)) if type(part) is BioS] or [people_of(task)]
    told: dict[tuple[str, ...], dict[int, str]] = {}
    for part in parts:
        corpus = Corpus(part, data_seed, "train")
        items, epoch = np.arange(corpus.items or 0), 0
        while len(items) and epoch < TELLINGS:
            items = items[~_note(corpus, part, items, epoch, told)]
            epoch += 1
    return [(*name, *(facts.get(a) for a in range(len(ATTRIBUTES)))) for name, facts in told.items()]


def _note(
    corpus: Corpus, part: BioS, items: np.ndarray, epoch: int, told: dict[tuple[str, ...], dict[int, str]]
) -> np.ndarray:
    """Read the biographies of items (n,) in an epoch; which (n,) are now told in full. What is told twice counts as
    told first."""
    block = corpus.about(items, np.full_like(items, epoch))
    complete = np.zeros(len(items), bool)
    for i in range(len(items)):
        person, said = part.read(corpus.world, block[i].tokens)
        if person is None:
            continue
        facts = told.setdefault(name_of(part, corpus.world.names[person]), {})
        for attribute, ids in said.items():
            facts.setdefault(attribute, sentence(part.kit.vocab.decode(ids)))
        complete[i] = len(facts) == len(ATTRIBUTES)
    return complete


def name_of(people: BioS, numbers: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    """First, middle and last name by their numbers."""
    ids = [column[number] for column, number in zip(people.kit.names, numbers, strict=True)]
    return tuple(people.kit.vocab.decode(ids))


class Database:
    """A table `people` with the COLUMNS, in memory. What comes from a question or a text only ever goes in as a
    parameter of a statement."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._connection = _connection()
        self._connection.execute(f"CREATE TABLE people ({', '.join(f'{column} TEXT' for column in COLUMNS)})")
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            places = ", ".join("unnest(CAST(? AS TEXT[]))" for _ in COLUMNS)
            self._connection.execute(f"INSERT INTO people SELECT {places}", columns)

    def who(self, given: Iterable[tuple[str, str]]) -> list[str]:
        """The full names, in their order, of those who have all of the given facts: pairs of a column and its value.
        Raises UserError for a column that there is not."""
        return sorted(" ".join(row[: len(NAME)]) for row in self._rows(given))

    def facts(self, name: Sequence[str]) -> Row | None:
        """The facts of a person, by first, middle and last name; None for somebody whom no text names."""
        found = self._rows(zip(NAME, name, strict=True))
        return tuple(found[0][len(NAME) :]) if found else None

    @cached_property
    def names(self) -> frozenset[str]:
        """The full names of everybody."""
        return frozenset(self.who(()))

    def _rows(self, given: Iterable[tuple[str, str]]) -> list[tuple[Any, ...]]:
        conditions = list(given)
        if unknown := {column for column, _ in conditions} - set(COLUMNS):
            raise UserError(f"the database has no column {min(unknown)!r}; its columns: {', '.join(COLUMNS)}")
        where = " AND ".join(["TRUE", *(f"{column} = ?" for column, _ in conditions)])
        values = [value for _, value in conditions]
        return self._connection.execute(f"SELECT * FROM people WHERE {where}", values).fetchall()


def _connection() -> Any:
    """A database of our own, that reads no file, loads no extension, and leaves the cores to the model."""
    try:
        import duckdb
    except ImportError as error:
        raise UserError("the database needs duckdb; install it with pip install 'physics-of-lms[system]'") from error
    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})
