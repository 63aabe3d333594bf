"""The table of an experiment: a row per run and evaluation row, in an order that keeps git's differences small."""

import csv
import hashlib
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.atomic_io import write_text
from experiments.harness.run import Rows
from synth.atomic_io import write_bytes
from synth.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_COLUMNS = 1000  # ours have forty; what is much wider takes minutes to parse
LEADING_COLUMNS = ("run", "experiment", "scale")
TRAILING_COLUMNS = ("parameters", "tokens", "steps", "train_loss", "git_commit", "device", "seconds")
# a run id such as 12345e678901 is a number to a careless reader
TEXT_COLUMNS = ("looks", "grid_edge", "run", "experiment", "scale", "evaluation", "git_commit", "device")


def to_table(results: Iterable[Rows], scale: str, looks: str = "") -> "DataFrame":
    """The rows of several runs, in the order given, as a table.

    looks: the numbers of seeds at which it was looked at, if that decided how many there are; a column then.
    Columns: run, experiment, scale, the tags, the seeds, the evaluations' settings and metrics in the order in which
    they first occur, then size, cost and origin. A metric that a row lacks is NaN, never 0. If a training diverged, all
    rows have `diverged`, and those of diverged runs `diverged_at`, the step.
    """
    import pandas

    looked_at = {"looks": looks} if looks else {}
    rows: list[dict[str, Any]] = [{**row, "scale": scale, **looked_at} for rows in results for row in rows]
    if any("diverged" in row for row in rows):
        rows = [{"diverged": False, **row} for row in rows]
    names = dict.fromkeys([*(name for row in rows for name in row), "step"])
    for row in rows:
        row.setdefault("step", row.get("steps"))  # a result from before curves: measured at the end
    middle = [name for name in names if name not in LEADING_COLUMNS + TRAILING_COLUMNS]
    return pandas.DataFrame(rows, columns=[*LEADING_COLUMNS, *middle, *TRAILING_COLUMNS])


def write_table(table: "DataFrame", path: Path) -> None:
    """Write a table as CSV with every digit of its numbers, and its checksum beside it, each atomically."""
    content = table.to_csv(index=False, lineterminator="\n").encode()
    write_bytes(path, content)
    write_text(checksum_path(path), _checksum(content, path))


def checksum_path(path: Path) -> Path:
    """The path of a table's checksum, which `sha256sum -c` reads too."""
    return path.with_suffix(".sha256")


def _checksum(content: bytes, path: Path) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def read_table(path: Path) -> "DataFrame":
    """Read a table. Raises UserError if it is missing, altered, cut short, or no table of runs."""
    return _read_checked(path, _parse_table)


def read_grid(path: Path) -> "DataFrame":
    """Read the table of a grid's trials. Raises UserError if it is missing, altered or cut short."""
    return _read_checked(path, lambda content: _parse_csv(content, {"arm": "str"}))


def _read_checked(path: Path, parse: Callable[[bytes], "DataFrame"]) -> "DataFrame":
    """What `parse` makes of a file whose checksum is right. Raises UserError, also where parse raises ValueError."""
    if not path.is_file():
        raise UserError(f"no table {path}; run the experiment at this scale first")
    content, beside = path.read_bytes(), checksum_path(path)
    try:
        if not beside.is_file():
            raise ValueError(f"lacks its checksum {beside.name}")
        if beside.read_bytes() != _checksum(content, path).encode():
            raise ValueError("was cut short or edited")
        return parse(content)
    except ValueError as error:
        problem = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
    raise UserError(f"{path} {problem}; run `git checkout -- {path} {beside}` or run the experiment again")


def _parse_csv(content: bytes, types: dict[str, str]) -> "DataFrame":
    """The table in a file's bytes. Raises ValueError whose message continues the file's name."""
    import pandas

    text = content.decode()
    try:
        widths = {len(row) for row in csv.reader(StringIO(text, newline=""))}
        if len(widths) != 1:
            raise ValueError("rows of different lengths" if widths else "nothing in it")
        if max(widths) > MAX_COLUMNS:
            raise ValueError(f"more than {MAX_COLUMNS} columns")
        # a tag may well be called "None" or "NA"
        return pandas.read_csv(StringIO(text), dtype=types, keep_default_na=False, na_values=[""])  # type: ignore[arg-type]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"is no table: {error}") from error


def _parse_table(content: bytes) -> "DataFrame":
    """The table of runs in a file's bytes. Raises ValueError whose message continues the file's name."""
    table = _parse_csv(content, dict.fromkeys(TEXT_COLUMNS, "str"))
    if missing := [name for name in LEADING_COLUMNS + TRAILING_COLUMNS if name not in table]:
        raise ValueError(f"lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if table.empty:
        raise ValueError("has a header and no rows")
    if table[list(LEADING_COLUMNS)].isna().any(axis=None):
        raise ValueError(f"has rows without {', '.join(LEADING_COLUMNS)}")
    if table.duplicated().any():
        raise ValueError(f"holds a row of run {table['run'][table.duplicated()].iloc[0]} twice")
    if "step" not in table:  # of a table from before curves: everything was measured at the end
        table.insert(table.columns.get_loc("parameters"), "step", table["steps"])
    return table


def last_rows(table: "DataFrame") -> "DataFrame":
    """The rows that were measured at the end of each run's training, without those of curves; all rows of a table that
    names no steps."""
    if "step" not in table:
        return table
    return table[table["step"] == table.groupby("run")["step"].transform("max")]
