"""A table of facts: a CSV file in UTF-8 with a header and a line a subject."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import log2
from pathlib import Path

import numpy as np

from synth.atomic_io import read_at_most
from synth.errors import UserError
from synth.facts.wording import STOP, Words, words_of
from synth.identity import digest
from synth.vocab import BOS, EOS, PAD

ELEMENTS = "elements"  # the table that comes with the suite: chemical elements 1 to 20
BUNDLED = {ELEMENTS: Path(__file__).with_name("elements.csv")}
MAX_FILE_BYTES = 50_000_000
RESERVED = (BOS, EOS, PAD)
TOTALS = ("name", "value", "diversity", "frequency")  # bits of these are columns of the capacity's results

Columns = tuple[tuple[Words, ...], ...]


@dataclass(frozen=True)
class FactTable:
    """N subjects and A attributes as words: names (N), attributes (A), and for each attribute its values (A, N)."""

    names: tuple[Words, ...]
    attributes: tuple[Words, ...]
    columns: Columns

    @cached_property
    def digest(self) -> str:
        """Hash of what the table says, whatever its file is called."""
        return digest([self.names, self.attributes, self.columns])

    @property
    def words(self) -> set[str]:
        """All words of the table."""
        texts = [*self.names, *self.attributes, *(value for column in self.columns for value in column)]
        return {word for text in texts for word in text}

    @property
    def log2_values(self) -> dict[str, float]:
        """log2 of the number of distinct values of each attribute."""
        pairs = zip(self.attributes, self.columns, strict=True)
        return {" ".join(attribute): log2(len(set(column))) for attribute, column in pairs}

    @cached_property
    def log2_names(self) -> float:
        """log2 of the number of names that the words of the names can form; log2 N for names of one word."""
        return log2_combinations(self.names)


def log2_combinations(names: Iterable[Words]) -> float:
    """log2 of the number of names that the words of names can form: for each length, the product over places of the
    number of distinct words there. So names of one word are all that there are: the vocabulary has them already."""
    places: dict[int, list[set[str]]] = {}
    for name in names:
        for place, word in zip(places.setdefault(len(name), [set() for _ in name]), name, strict=True):
            place.add(word)
    return float(np.logaddexp2.reduce([sum(log2(len(words)) for words in each) for each in places.values()]))


def read_table(path: str, name_column: str | None = None) -> FactTable:
    """The table of a file, or the bundled one of that name. name_column: the header of the names; None: the first.

    Raises UserError, one line with the file's line number, for what is no such table.
    """
    rows = _read_rows(BUNDLED.get(path, Path(path)), path)
    header = [" ".join(words_of(cell)) for cell in rows[0][1]] if rows else []
    _check_header(header, path, name_column)
    at = 0 if name_column is None else header.index(" ".join(words_of(name_column)))
    if len(rows) < 3:
        raise UserError(f"{path} has {max(len(rows) - 1, 0)} rows below its header; give at least 2 subjects")
    spelt, first_line = dict[tuple[int, Words], str](), dict[Words, int]()
    cells = [_check_row(row, line, header, path, spelt) for line, row in rows[1:]]
    for (line, _), row in zip(rows[1:], cells, strict=True):
        if row[at] in first_line:
            name = " ".join(row[at])
            raise UserError(
                f"{path}, line {line}: {name!r} has line {first_line[row[at]]} already; name subjects apart"
            )
        first_line[row[at]] = line
    kept = [column for column in range(len(header)) if column != at]
    columns = tuple(tuple(row[column] for row in cells) for column in kept)
    return FactTable(tuple(row[at] for row in cells), tuple(words_of(header[column]) for column in kept), columns)


def _read_rows(file: Path, path: str) -> list[tuple[int, list[str]]]:
    """The rows that hold something, each with the line on which it ends."""
    try:
        text = read_at_most(file, MAX_FILE_BYTES).decode("utf-8-sig")
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter="\t" if file.suffix == ".tsv" else ",", strict=True
        )
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give a CSV file, or {ELEMENTS}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error}; save it as CSV in UTF-8") from error


def _check_header(header: list[str], path: str, name_column: str | None) -> None:
    """Raise UserError unless the header names each column once, the names and at least one attribute."""
    if not header:
        raise UserError(f"{path} is empty; give a header and a line for each subject")
    if "" in header:
        raise UserError(f"{path}: column {header.index('') + 1} has no name in the header; give it one")
    spelt = [cell.replace(" ", "_") for cell in header]  # as columns of results are
    if twice := [cell for cell, name in zip(header, spelt, strict=True) if spelt.count(name) > 1]:
        raise UserError(f"{path}: two columns are called {twice[0]!r}; give each its own name")
    if name_column is not None and " ".join(words_of(name_column)) not in header:
        raise UserError(f"{path} has no column {name_column!r} for the names; its columns: {', '.join(header)}")
    if len(header) < 2:
        hint = " (separate them by commas)" if set(header[0]) & set(";\t") else ""
        raise UserError(f"{path} has the one column {header[0]!r}; give names and at least one attribute{hint}")
    name = header[0] if name_column is None else " ".join(words_of(name_column))
    for attribute in header:
        if attribute != name and attribute.lower() in TOTALS:
            raise UserError(f"{path}: an attribute cannot be called {attribute!r}, as results are; give another name")


def _check_row(
    row: list[str], line: int, header: list[str], path: str, spelt: dict[tuple[int, Words], str]
) -> list[Words]:
    """The cells as words. spelt: how each cell of each column was first written. Raises UserError for a bad row."""
    if len(row) != len(header):
        raise UserError(
            f"{path}, line {line}: {len(row)} cells under {len(header)} columns; quote commas within a cell"
        )
    cells = [words_of(cell) for cell in row]
    for column, (cell, words) in enumerate(zip(row, cells, strict=True)):
        if not words:
            raise UserError(f"{path}, line {line}: no {header[column]}; fill the cell, or leave the line out")
        if reserved := [word for word in words if word in RESERVED or word == STOP]:
            raise UserError(
                f"{path}, line {line}: {reserved[0]!r} ends or pads texts and is no word; write it otherwise"
            )
        before = spelt.setdefault((column, words), cell.strip())
        if before != cell.strip():
            raise UserError(f"{path}, line {line}: {cell.strip()!r} has the same words as {before!r}; write both alike")
    return cells
