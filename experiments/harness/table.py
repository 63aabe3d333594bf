"""The table of an experiment: one row per run and evaluation row, in an order that keeps git's differences small."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.files import write_text
from experiments.harness.runs import Rows
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

FIRST = ("run", "experiment", "scale")
LAST = ("parameters", "tokens", "steps", "train_loss", "git_commit", "device", "seconds")
# a run id such as 12345e678901 is a number to a careless reader
TEXT = ("run", "experiment", "scale", "evaluation", "git_commit", "device")


def to_table(results: Iterable[Rows], scale: str) -> "DataFrame":
    """The rows of several runs, in the order given, as a table.

    Columns: run, experiment, scale, the tags, the seeds, the evaluations' settings and metrics in the order in which
    they first occur, then size, cost and origin. A metric that a row does not have is missing (NaN), never 0.
    """
    import pandas

    rows: list[dict[str, Any]] = [{**row, "scale": scale} for rows in results for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    middle = [name for name in names if name not in FIRST + LAST]
    return pandas.DataFrame(rows, columns=[*FIRST, *middle, *LAST])


def write_table(table: "DataFrame", path: Path) -> None:
    """Write a table as CSV with every digit of its numbers, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_table(path: Path) -> "DataFrame":
    """Read a table. Raises UserError when the file is missing, cut short or holds the marks of a merge."""
    import pandas

    if not path.is_file():
        raise UserError(f"no table {path}; run the experiment at this scale first")
    text = path.read_text(encoding="utf-8")
    widths = {len(row) for row in csv.reader(text.splitlines())}
    if not text.endswith("\n") or len(widths) != 1:
        raise UserError(f"{path} was cut short or edited; run `git checkout -- {path}` or run the experiment again")
    return pandas.read_csv(
        path,
        dtype=dict.fromkeys(TEXT, "str"),
        keep_default_na=False,  # a tag may well be called "None" or "NA"
        na_values=[""],
    )
