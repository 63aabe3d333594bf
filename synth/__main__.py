"""python -m synth: look at a task's data, export it, or score completions made elsewhere.

  python -m synth list                              every task and preset
  python -m synth show TASK [--n 1000]              samples, loss mask, lengths, difficulty, duplicates, overlap
  python -m synth export TASK --n 10000 --to jsonl  documents for training elsewhere
  python -m synth score TASK --in FILE [--detail]   scores for completions made elsewhere, one JSON object a line

TASK is a name from `list`, or path/to/file.py:Class for a task of your own (also as --task path.py:Class).
The fields of the task are options too: python -m synth show cfg --grammar cfg3f --root 13
`python -m synth VERB TASK --help` lists them all.
"""

import io
import json
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from synth.commands.command_line import UNNAMEABLE, check_arguments, complain, flush, output_lost
from synth.errors import UserError
from synth.task import Task


@dataclass
class Show:
    """Print samples and a report on the first n documents."""

    n: int = 1000
    """documents in the report"""
    samples: int = 3
    """documents printed in full"""
    seed: int = 0
    split: Literal["train", "valid", "test"] = "train"
    json: bool = False
    """print the report as one JSON object"""

    def run(self, task: Task, called: str) -> None:
        from synth.commands.summary import measure, show

        if self.samples < 0:
            raise UserError(f"--samples {self.samples} cannot be printed; give 0 or more")
        if self.n < 1:
            raise UserError(f"--n {self.n} leaves nothing to report on; give at least 1")
        if self.json:
            print(json.dumps(measure(task, self.seed, self.n, self.split)))
        else:
            print(show(task, self.seed, self.n, self.split, self.samples))


@dataclass
class Export:
    """Write the first n documents of a split."""

    n: int = 1000
    """documents to write"""
    to: Literal["parquet", "jsonl", "txt"] = "jsonl"
    out: Path | None = None
    """file to write; if not given, in this folder and named by TASK, the fields that were set, and the format"""
    seed: int = 0
    split: Literal["train", "valid", "test"] = "train"
    labels: bool = False
    """also write the labels of every position"""
    overwrite: bool = False
    """write over an earlier file"""

    def run(self, task: Task, called: str) -> None:
        from synth.commands.export import export

        out = self.out or Path(f"{called}.{self.to}")
        if out.suffix in (".parquet", ".jsonl", ".txt") and out.suffix != f".{self.to}":
            raise UserError(f"{out} is no name for {self.to}; give --to {out.suffix[1:]} or another --out")
        if out.exists() and not self.overwrite:
            raise UserError(f"{out} is there already; give another --out, or --overwrite to lose it")
        for path in export(task, self.n, self.to, out, self.seed, self.split, self.labels):
            print(path)


@dataclass
class Score:
    """Score completions: {"tokens": [...]} a line, ids or symbol names, with or without <bos> and <eos>."""

    completions: Annotated[Path, tyro.conf.arg(name="in")]
    """json lines; "index": i completes the prompt of document i, else tokens are a whole document; - reads stdin"""
    out: Path | None = None
    """file for the results; standard output if not given"""
    detail: bool = False
    """print all that the exact oracle knows instead of the scores"""
    seed: int = 0
    split: Literal["train", "valid", "test"] = "test"

    def run(self, task: Task, called: str) -> None:
        from synth.commands.export import output
        from synth.commands.scoring import score

        found = score(task, self.completions, self.seed, self.split, self.detail)
        if self.out is None:
            for row in found:
                print(json.dumps(row))
            return
        with output(self.out) as partial, partial.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)


VERBS: dict[str, type[Any]] = {"show": Show, "export": Export, "score": Score}


def list_tasks() -> None:
    """Print every task with its presets and source."""
    from synth.registry import installed_tasks

    for name, cls in sorted(installed_tasks().items()):
        presets = f"  presets: {' '.join(cls.presets)}" if cls.presets else ""
        print(f"{name}{presets}\n    {cls.source}")


def main(argv: list[str]) -> None:
    """Run one command line; raises UserError on bad input."""
    check_arguments(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(__doc__)
        return
    verb, rest = argv[0], argv[1:]
    if verb == "list":
        if set(rest) - {"-h", "--help"}:
            raise UserError(f"list takes no {rest[0]!r}; python -m synth show TASK tells more of one task")
        return print(__doc__) if rest else list_tasks()
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}; choose list, {', '.join(VERBS)}")
    if "--task" in rest:
        at = rest.index("--task")
        rest = rest[at + 1 : at + 2] + rest[:at] + rest[at + 2 :]
    if not rest or rest[0].startswith("-"):
        if set(rest) & {"-h", "--help"}:
            tyro.cli(VERBS[verb], prog=f"python -m synth {verb} TASK", args=["--help"])
        raise UserError(f"which task? python -m synth {verb} TASK; `python -m synth list` names them")
    arguments(verb, rest[0], rest[1:])()


def arguments(verb: str, spec: str, options: list[str]) -> Callable[[], None]:
    """The parsed command: the options of the verb and the fields of the task, in one flat list of flags."""
    from synth.registry import task_class

    cls, preset = task_class(spec)
    chosen = cls(**preset)
    both = make_dataclass(
        f"{verb}_{cls.__name__}",
        [
            ("options", Annotated[VERBS[verb], tyro.conf.OmitArgPrefixes]),
            ("task", Annotated[cls, tyro.conf.OmitArgPrefixes], field(default=chosen)),
        ],
    )
    parsed: Any = parse(both, prog=f"python -m synth {verb} {spec}", description=VERBS[verb].__doc__, args=options)
    return lambda: parsed.options.run(parsed.task, _called(spec, chosen, parsed.task))


def _called(spec: str, chosen: Task, task: Task) -> str:
    """A file name for a task as it was asked for: cfg3f, cfg3f-root13; reverse.py:Reverse is Reverse."""
    values = [(f.name, getattr(task, f.name)) for f in fields(task)]
    changed = [(key, value) for key, value in values if value != getattr(chosen, key)]
    name = Path(spec.rpartition(":")[2]).name.removesuffix(".py")
    return re.sub(r"[^\w.-]+", "_", "-".join([name, *(f"{key}{Path(str(value)).name}" for key, value in changed)]))


def parse(kind: Any, **settings: Any) -> Any:
    """tyro.cli, but what it has to say against a command line is the one line of a UserError, not a box."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, **settings)
    except SystemExit as leaving:
        if leaving.code != 2:
            raise
    raise UserError(_unboxed(said.getvalue()))


def _unboxed(box: str) -> str:
    """The text in a box of tyro's: a title, then parts with a rule between them."""
    lines = [line.strip("│| ") for line in re.sub("\x1b\\[[0-9;]*m", "", box).splitlines()[1:]]
    parts = "\n".join(line if re.search(r"\w", line) else "\0" for line in lines).split("\0")
    text = "; ".join(" ".join(part.split()) for part in parts if part.strip())
    return re.sub(r"Error parsing (\S*__tyro\S*: )?", "", text)


def _told(error: OSError) -> str:
    mend = "give another name" if error.errno in UNNAMEABLE else "mend this and run the same command again"
    return f"{error.filename or 'the output'}: {error.strerror or error}; {mend}"


def guarded(command: Callable[[], None], stopped: str) -> int:
    """The exit status of a command: 2 and one line on standard error for what a user can mend, 130 for Ctrl-C."""
    try:
        command()
        flush()
    except UserError as error:
        complain(error)
        return 2
    except OSError as error:
        output_lost()
        if isinstance(error, BrokenPipeError):  # `... | head`
            return 0
        complain(_told(error))
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {stopped}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), "no file is left half written; run the same command again"))
