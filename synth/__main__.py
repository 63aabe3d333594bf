"""Look at a task's data, export it, or score completions made elsewhere.

  python -m synth list                              every task and preset
  python -m synth show TASK [--num-samples 1000]    samples, loss mask, lengths, difficulty, duplicates, overlap
  python -m synth export TASK --num-samples 10000 --format jsonl     documents for training elsewhere
  python -m synth score TASK --input FILE [--detail]                 scores for completions, one JSON object a line

TASK is a name from `list`, or path/to/file.py:Class for a task of your own (also as --task path.py:Class).
The fields of the task are options too: python -m synth show cfg --grammar cfg3f --root 13
`python -m synth COMMAND TASK --help` lists them all.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from synth.commands.command_line import changed_fields, choose_command, guarded, parse, parse_with_task, split_task
from synth.errors import UserError
from synth.task import Task

PROG = "python -m synth"


@dataclass
class List:
    """Print every task with its presets and source."""

    def run(self) -> None:
        from synth.registry import installed_tasks

        for name, cls in sorted(installed_tasks().items()):
            presets = f"  presets: {' '.join(cls.presets)}" if cls.presets else ""
            print(f"{name}{presets}\n    {cls.source}")


@dataclass
class Show:
    """Print samples and a report on the first documents of a split."""

    num_samples: int = 1000
    """documents in the report"""
    num_printed: int = 3
    """documents printed in full"""
    seed: int = 0
    """seed of the world and of the documents"""
    split: Literal["train", "valid", "test"] = "train"
    """which documents to draw"""
    json: bool = False
    """print the report as one JSON object"""

    def run(self, task: Task, file_stem: str) -> None:
        from synth.commands.summary import format_summary, summarize

        if self.num_printed < 0:
            raise UserError(f"--num-printed {self.num_printed} cannot be printed; give 0 or more")
        if self.num_samples < 1:
            raise UserError(f"--num-samples {self.num_samples} leaves nothing to report on; give at least 1")
        if self.json:
            print(json.dumps(summarize(task, self.seed, self.num_samples, self.split)))
        else:
            print(format_summary(task, self.seed, self.num_samples, self.split, self.num_printed))


@dataclass
class Export:
    """Write the first documents of a split to a file, and the vocabulary beside it."""

    num_samples: int = 1000
    """documents to write"""
    format: Literal["parquet", "jsonl", "txt"] = "jsonl"
    """file format: token ids, or symbol names in txt"""
    output: Path | None = None
    """file to write; if not given, in this folder and named by TASK, the fields that were set, and the format"""
    seed: int = 0
    """seed of the world and of the documents"""
    split: Literal["train", "valid", "test"] = "train"
    """which documents to draw"""
    labels: bool = False
    """also write the labels of every position"""
    overwrite: bool = False
    """write over an earlier file"""

    def run(self, task: Task, file_stem: str) -> None:
        from synth.commands.export import export

        output = self.output or Path(f"{file_stem}.{self.format}")
        if output.suffix in (".parquet", ".jsonl", ".txt") and output.suffix != f".{self.format}":
            mend = f"give --format {output.suffix[1:]} or another --output"
            raise UserError(f"{output} is no name for {self.format}; {mend}")
        if output.exists() and not self.overwrite:
            raise UserError(f"{output} is there already; give another --output, or --overwrite to lose it")
        for path in export(task, self.num_samples, self.format, output, self.seed, self.split, self.labels):
            print(path)


@dataclass
class Score:
    """Score completions: a line {"tokens": [...]}, {"completion": ...} or {"text": ...}, of ids, names or a text of
    them, with or without <bos>, <eos> and padding. The means are printed last, to standard error."""

    input: Path
    """json lines; "index": i completes the prompt of document i, else tokens are a whole document; - reads stdin"""
    output: Path | None = None
    """file for the results; standard output if not given"""
    detail: bool = False
    """print all that the exact oracle knows instead of the scores"""
    seed: int | None = None
    """seed of the world and of the documents whose prompts were completed; if not given as the lines say, else 0"""
    split: Literal["train", "valid", "test"] | None = None
    """which documents were completed; if not given as the lines say, else test"""

    def run(self, task: Task, file_stem: str) -> None:
        from synth.commands.export import output
        from synth.commands.scoring import describe_means, score_file

        rows = list(score_file(task, self.input, self.seed, self.split, self.detail))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if self.output is None:
            print(text, end="", flush=True)
        else:
            with output(self.output) as partial:
                partial.write_text(text)
        print(describe_means(rows), file=sys.stderr)


COMMANDS: dict[str, type[Any]] = {"list": List, "show": Show, "export": Export, "score": Score}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line. Raises UserError on bad input."""
    name, rest = choose_command(PROG, __doc__ or "", COMMANDS, argv)
    prog = f"{PROG} {name}"
    if name == "list":
        return parse(List, prog, rest).run()
    spec, rest = split_task(rest)
    if spec is None:
        if set(rest) & {"-h", "--help"}:
            parse(COMMANDS[name], f"{prog} TASK", ["--help"])
        raise UserError(f"which task? {prog} TASK; `{PROG} list` names them")
    options, task, default = parse_with_task(COMMANDS[name], prog, spec, rest)
    options.run(task, _file_stem(spec, default, task))


def _file_stem(spec: str, default: Task, task: Task) -> str:
    """A file name for a task and the fields that were set: cfg3f, cfg3f-root13; reverse.py:Reverse is Reverse."""
    name = Path(spec.rpartition(":")[2]).name.removesuffix(".py")
    return re.sub(
        r"[^\w.-]+",
        "_",
        "-".join([name, *(f"{key}{Path(str(value)).name}" for key, value in changed_fields(default, task).items())]),
    )


if __name__ == "__main__":
    sys.exit(guarded(main, "no file is left half written; run the same command again"))
