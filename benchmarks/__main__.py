"""The command line: `python -m benchmarks` runs all benchmarks, `python -m benchmarks NAME ...` some."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from synth.commands.command_line import guarded, nearest, parse
from synth.errors import UserError

if TYPE_CHECKING:
    from benchmarks.timing import Row

PREFIX = "bench_"
PROG = "python -m benchmarks"


def names() -> list[str]:
    """Names of all benchmarks, from the files bench_NAME.py of this folder."""
    return sorted(path.stem.removeprefix(PREFIX) for path in Path(__file__).parent.glob(f"{PREFIX}*.py"))


def measure(name: str, quick: bool) -> "Iterator[Row]":
    """Yield the rows of a benchmark as they are measured. Raises UserError for an unknown name."""
    if name not in names():
        raise UserError(f"unknown benchmark {name!r}; {nearest(name, names())}choose among {', '.join(names())}")
    for row in import_module(f"benchmarks.{PREFIX}{name}").run(quick):
        yield replace(row, name=name)


@dataclass
class Benchmarks:
    """Speed against public alternatives, measured in turns."""

    names: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME ...]")]] = ()
    """which benchmarks; if not given, all"""
    json: bool = False
    """print one JSON object a line"""
    quick: bool = False
    """tiny sizes: shows that it runs, not how fast"""
    write: bool = False
    """keep table and figure in results/benchmarks"""

    def run(self) -> None:
        if self.write and self.quick:
            raise UserError("--quick numbers are not worth keeping; leave out --write or --quick")
        _run(self.names or names(), self.json, self.quick, self.write)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line; bad input ends it with one line and status 2."""

    def run() -> None:
        about = f"{Benchmarks.__doc__}\n\nNAME: {', '.join(names())}"
        parse(Benchmarks, PROG, argv, description=about, config=(tyro.conf.FlagCreatePairsOff,)).run()

    if status := guarded(run, "nothing was written"):
        raise SystemExit(status)


def _run(chosen: Sequence[str], as_json: bool, quick: bool, keep: bool) -> None:
    from benchmarks.report import HEAD, line, write

    unknown = [name for name in chosen if name not in names()]
    rows: list[Row] = []
    for number, name in enumerate(unknown[:1] or chosen):  # an unknown name fails before anything is measured
        for row in measure(name, quick):
            if not as_json and not rows:
                print(HEAD)
            rows.append(row)
            print(json.dumps(row.to_json()) if as_json else line(row), flush=True)
        if keep and number == len(chosen) - 1:
            for path in write(rows):
                print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
