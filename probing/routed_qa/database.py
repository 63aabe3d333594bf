"""A database of the facts in the training biographies, for the questions that a language model cannot answer.

Models of all sizes fail at inverse search, finding the person who has a fact (Part 3.2, arXiv 2309.14402, section 5).
The database is filled by parsing the biographies that the model is trained on, and from nothing else.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from probing.knowledge.qa_data import name_words
from synth.bio.codec import join_words
from synth.bio.manipulation import NAME_PARTS
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import Corpus
from synth.errors import UserError
from synth.mixture import parts_of
from synth.task import TrainingData
from synth.tasks.bios import BioS, biographies_of

FACT_COLUMNS = tuple(name.replace(" ", "_") for name in ATTRIBUTES)
COLUMNS = (*NAME_PARTS, *FACT_COLUMNS)
MAX_EPOCHS = 5  # a fact that is not in the first five biographies of a person is taken to be missing
Row = tuple[str | None, ...]


def read_biographies(task: TrainingData, data_seed: int) -> list[Row]:
    """The COLUMNS of each person named in the training biographies of a task, parsed from the texts (BioS.parse); None
    for a fact that no text states. Raises UserError for a task that is not about the people of bioS."""
    parts = [part for part in parts_of(task) if type(part) is BioS] or [biographies_of(task)]
    known: dict[tuple[str, ...], dict[int, str]] = {}
    for part in parts:
        corpus = Corpus(part, data_seed, "train")
        items, epoch = np.arange(corpus.num_items or 0), 0
        while len(items) and epoch < MAX_EPOCHS:
            items = items[~_read_epoch(corpus, part, items, epoch, known)]
            epoch += 1
    return [(*name, *(facts.get(a) for a in range(len(ATTRIBUTES)))) for name, facts in known.items()]


def _read_epoch(
    corpus: Corpus, part: BioS, items: np.ndarray, epoch: int, known: dict[tuple[str, ...], dict[int, str]]
) -> np.ndarray:
    """Add the facts in an epoch's biographies of items (n,) to `known`, by name, unless they are there already; returns
    a mask (n,) of the items of which all facts are known now."""
    block = corpus.render_items(items, np.full_like(items, epoch))
    complete = np.zeros(len(items), bool)
    for i in range(len(items)):
        person, values = part.parse(corpus.world, block[i].tokens)
        if person is None:
            continue
        facts = known.setdefault(name_words(part, corpus.world.names[person]), {})
        for attribute, ids in values.items():
            facts.setdefault(attribute, join_words(part.lexicon.vocab.decode(ids)))
        complete[i] = len(facts) == len(ATTRIBUTES)
    return complete


class Database:
    """An in-memory table `people` with the COLUMNS. Text from questions and documents enters statements as parameters
    only."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._connection = _connection()
        self._connection.execute(f"CREATE TABLE people ({', '.join(f'{column} TEXT' for column in COLUMNS)})")
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            placeholders = ", ".join("unnest(CAST(? AS TEXT[]))" for _ in COLUMNS)
            self._connection.execute(f"INSERT INTO people SELECT {placeholders}", columns)

    def names_with(self, conditions: Iterable[tuple[str, str]]) -> list[str]:
        """The sorted full names of the people who fulfil all conditions, pairs of a column and its value.

        Raises UserError for an unknown column.
        """
        return sorted(" ".join(row[: len(NAME_PARTS)]) for row in self._select(conditions))

    def facts(self, name: Sequence[str]) -> Row | None:
        """The values (in the order of FACT_COLUMNS) of a person, given first, middle and last name; None for an unknown
        name."""
        rows = self._select(zip(NAME_PARTS, name, strict=True))
        return tuple(rows[0][len(NAME_PARTS) :]) if rows else None

    @cached_property
    def names(self) -> frozenset[str]:
        """All full names."""
        return frozenset(self.names_with(()))

    def _select(self, conditions: Iterable[tuple[str, str]]) -> list[tuple[Any, ...]]:
        conditions = list(conditions)
        if unknown := {column for column, _ in conditions} - set(COLUMNS):
            raise UserError(f"the database has no column {min(unknown)!r}; its columns: {', '.join(COLUMNS)}")
        where = " AND ".join(["TRUE", *(f"{column} = ?" for column, _ in conditions)])
        values = [value for _, value in conditions]
        return self._connection.execute(f"SELECT * FROM people WHERE {where}", values).fetchall()


def _connection() -> Any:
    """A single-threaded in-memory database that can neither read files nor load extensions."""
    try:
        import duckdb
    except ImportError as error:
        raise UserError("the database needs duckdb; install it with pip install 'physics-of-lms[system]'") from error
    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})
