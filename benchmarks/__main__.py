"""The command line: `python -m benchmarks` runs all benchmarks, `python -m benchmarks NAME ...` some."""

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from synth.commands.command_line import Parser, complain
from synth.errors import UserError

if TYPE_CHECKING:
    from benchmarks.timing import Row

PREFIX = "bench_"


def names() -> list[str]:
    """Every benchmark: the files bench_NAME.py of this folder."""
    return sorted(path.stem.removeprefix(PREFIX) for path in Path(__file__).parent.glob(f"{PREFIX}*.py"))


def measure(name: str, quick: bool) -> "Iterator[Row]":
    """The rows of one benchmark as they come. Raises UserError for an unknown name."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown benchmark {name!r}; {guess}choose among {', '.join(names())}")
    for row in import_module(f"benchmarks.{PREFIX}{name}").run(quick):
        yield replace(row, name=name)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line; errors that a user can mend end it with one line and status 2."""
    parser = Parser(prog="python -m benchmarks", description="Speed against the public alternatives, in turns.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names())} (default: all)")
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--write", action="store_true", help="keep table and figure in results/benchmarks")
    options = parser.parse_args(argv)
    try:
        if options.write and options.quick:
            raise UserError("--quick numbers are not worth keeping; leave out --write or --quick")
        _run(options.names or names(), options.json, options.quick, options.write)
    except UserError as error:
        complain(error)
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(0) from None  # the reader, such as head, has seen enough


def _run(chosen: Sequence[str], as_json: bool, quick: bool, keep: bool) -> None:
    from benchmarks.report import HEAD, line, write

    unknown = [name for name in chosen if name not in names()]
    rows: list[Row] = []
    for number, name in enumerate(unknown[:1] or chosen):  # an unknown name fails before anything is measured
        for row in measure(name, quick):
            if not as_json and not rows:
                print(HEAD)
            rows.append(row)
            print(json.dumps(row.printed()) if as_json else line(row), flush=True)
        if keep and number == len(chosen) - 1:
            for path in write(rows):
                print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
