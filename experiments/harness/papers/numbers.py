"""The papers' own numbers, from one table: numbers.csv, a row for every number that a figure or a claim uses.

Columns: paper (the part of the series), version (arXiv number), place (figure, table or result in it), row and column
there, value, unit ("share", "bits a parameter", "nats a token", ...), note.
"""

import csv
import difflib
from collections import Counter
from functools import cache
from pathlib import Path

from synth.errors import UserError

NUMBERS_PATH = Path(__file__).with_name("numbers.csv")
Key = tuple[str, str]  # row and column of a table or figure


@cache
def _all_numbers() -> dict[tuple[str, str], dict[Key, float]]:
    """Numbers by (paper, place) and (row, column). Raises UserError for a cell that stands twice or is no number."""
    with open(NUMBERS_PATH, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    found: dict[tuple[str, str], dict[Key, float]] = {}
    cells = Counter((row["paper"], row["place"], row["row"], row["column"]) for row in rows)
    if twice := [cell for cell, count in cells.items() if count > 1]:
        raise UserError(f"{NUMBERS_PATH.name} has {' / '.join(twice[0])} twice; keep one")
    for row in rows:
        try:
            value = float(row["value"])
        except ValueError:
            raise UserError(f"{NUMBERS_PATH.name}: {row['value']!r} of {row['place']} is no number") from None
        found.setdefault((row["paper"], row["place"]), {})[row["row"], row["column"]] = value
    return found


def paper_numbers(paper: str, place: str) -> dict[Key, float]:
    """All numbers of a figure or table of a paper, by (row, column), in the unit that numbers.csv names.

    paper: the part, such as "3.1"; place: such as "Figure 4". Raises UserError, with the nearest name, for an unknown
    place.
    """
    table = _all_numbers()
    if (paper, place) not in table:
        raise UserError(f"{NUMBERS_PATH.name} has no {place!r} of part {paper!r}{_nearest(place, paper)}")
    return dict(table[paper, place])


def paper_number(paper: str, place: str, row: str, column: str) -> float:
    """One number of a paper (see `paper_numbers`). Raises UserError, with the nearest cell, for an unknown one."""
    cells = paper_numbers(paper, place)
    if (row, column) not in cells:
        names = [" / ".join(cell) for cell in cells]
        near = difflib.get_close_matches(f"{row} / {column}", names, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(names[:8])}"
        raise UserError(f"{NUMBERS_PATH.name} has no {row} / {column} in {place} of part {paper}{hint}")
    return cells[row, column]


def _nearest(place: str, paper: str) -> str:
    places = [name for part, name in _all_numbers() if part == paper]
    near = difflib.get_close_matches(place, places, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(places) or 'nothing of that part'}"
