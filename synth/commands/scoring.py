"""Scoring completions that were generated elsewhere, one JSON object a line."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Task


def read_completions(task: Task, path: Path) -> list[dict[str, Any]]:
    """Rows {"ids", "index", "where"} of a completions file ("-": standard input).

    A line is {"tokens": [...]} with ids or symbol names and optionally {"index": i}, the number of the document whose
    prompt was completed. Raises UserError that names the first bad line.
    """
    stdin = str(path) == "-"
    name = "standard input" if stdin else path
    try:
        lines = (sys.stdin.read() if stdin else path.read_text()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {name}: {error}; give a text file with one JSON object a line") from None
    rows = [_parse(task, line, f"{name}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f'{name} holds no completions; give one JSON object a line, as in {{"tokens": ["1", "2"]}}')
    return rows


def _parse(task: Task, line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}); one object a line") from None
    except (RecursionError, ValueError):  # brackets in brackets in ..., or a number of thousands of digits
        raise UserError(f"{where}: nests too deeply or holds too long a number; one object a line") from None
    if not isinstance(row, dict) or not isinstance(row.get("tokens"), list):
        raise UserError(f'{where}: needs a list "tokens", as in {{"tokens": ["1", "2"]}}')
    index = row.get("index")
    if index is not None and (not isinstance(index, int) or isinstance(index, bool) or index < 0):
        raise UserError(f'{where}: "index" must be the number of a document, 0 or more')
    vocab = task.vocab()
    tokens = row["tokens"]
    try:
        if all(isinstance(t, int) and not isinstance(t, bool) for t in tokens):
            vocab.check(tokens)
            ids = np.array(tokens, np.int32)
        else:
            ids = vocab.encode(tokens)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return {"ids": ids, "index": index, "where": where}


def score_file(
    task: Task, path: Path, seed: int = 0, split: str = "test", detail: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield `Task.score` (with detail `Task.detail`) of each completion of a file, in its order.

    Raises UserError that names the line if the task needs the document to score a completion.
    """
    completions = read_completions(task, path)
    corpus = Corpus(task, seed, split)
    judge = task.detail if detail else task.score
    for row in completions:
        index = row["index"]
        example = None if index is None else corpus.documents(index, index + 1)[0]
        try:
            scores = judge(corpus.world, example, row["ids"])
        except UserError as error:
            raise UserError(f"{row['where']}: {error}") from error
        except (AttributeError, TypeError) as error:  # the task used the example, which is None
            if example is not None:
                raise
            raise UserError(
                f'{row["where"]}: this task needs "index", the number of the document that is completed '
                f"(without it: {type(error).__name__}: {error})"
            ) from error
        yield scores if index is None else {"index": index, **scores}
