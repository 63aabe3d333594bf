"""Scoring completions that were generated elsewhere, one JSON object a line."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import SPLITS, Task
from synth.vocab import Vocab

COMPLETION_FIELDS = ("tokens", "completion", "text")


@dataclass(frozen=True)
class Completion:
    """A line of a completions file.

    ids (T,) int32; prompt (P,) int32: what stood before them in a line that was exported; index, split, seed: the
    document whose prompt was completed, where the line says; where: the line, for messages.
    """

    ids: np.ndarray
    prompt: np.ndarray
    index: int | None
    split: str | None
    seed: int | None
    where: str


def read_completions(task: Task, path: Path) -> list[Completion]:
    """The completions of a file ("-": standard input).

    A line is an object with "tokens", "completion" or "text": ids, symbol names, or a text of them; and optionally
    "index": i, the number of the document whose prompt was completed, with its "split" and "seed". A line of `synth
    export`, whose tokens begin with a prompt of "prompt_length", is taken as the completion of that prompt. Raises
    UserError that names the first bad line.
    """
    stdin = str(path) == "-"
    name = "standard input" if stdin else path
    try:
        content = sys.stdin.read() if stdin else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {name}: {error}; give a text file with one JSON object a line") from None
    lines = content.split("\n")  # splitlines would also end a line at U+2028 and others, which JSON strings may hold
    rows = [_parse(task, line, f"{name}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError(f'{name} holds no completions; give one JSON object a line, as in {{"tokens": ["1", "2"]}}')
    return rows


def _parse(task: Task, line: str, where: str) -> Completion:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}); one object a line") from None
    except (RecursionError, ValueError):  # brackets in brackets in ..., or a number of thousands of digits
        raise UserError(f"{where}: nests too deeply or holds too long a number; one object a line") from None
    given = [key for key in COMPLETION_FIELDS if isinstance(row, dict) and key in row]
    if len(given) != 1 or not isinstance(row[given[0]], list | str):
        raise UserError(
            f'{where}: needs one list or text "tokens", "completion" or "text", as {{"tokens": ["1", "2"]}}'
        )
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise UserError(f'{where}: "split" must be one of {", ".join(SPLITS)}')
    try:
        ids = _to_ids(task, row[given[0]])
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    index, seed, start = (_number(row, name, where) for name in ("index", "seed", "prompt_length"))
    start = (start or 0) if index is not None and given == ["tokens"] else 0
    return Completion(ids[start:], ids[:start], index, split, seed, where)


def _number(row: dict[str, Any], name: str, where: str) -> int | None:
    value = row.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise UserError(f'{where}: "{name}" must be a whole number, 0 or more')
    return value


def _to_ids(task: Task, tokens: list[Any] | str) -> np.ndarray:
    """Ids (T,) int32 of ids, of names, or of a text: of a task that reads texts, else of names with spaces between."""
    vocab = task.vocab()
    if isinstance(tokens, str):
        return task.encode(tokens.strip()) if hasattr(task, "encode") else vocab.encode(tokens.split())
    if all(isinstance(t, int) and not isinstance(t, bool) for t in tokens):
        vocab.check(tokens)
        return np.array(tokens, np.int32)
    return vocab.encode(tokens)


def cut_after_end(ids: np.ndarray, vocab: Vocab, keep_eos: bool) -> np.ndarray:
    """Ids (T,) without the run of <eos> and <pad> at their end, as batched generation leaves it; keep_eos: but for the
    <eos> that ends the document, the first of the run, if it has one."""
    is_end = np.isin(ids, (vocab.eos, vocab.pad))
    length = len(ids) - int(np.argmin(is_end[::-1])) if not is_end.all() else 0
    end = [vocab.eos] if keep_eos and vocab.eos in ids[length:] else []
    return np.array([*ids[:length], *end], np.int32)


def score_file(
    task: Task, path: Path, seed: int | None = None, split: str | None = None, detail: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield `Task.score` (with detail `Task.detail`) of each completion of a file, in its order.

    seed, split: of the documents that were completed; None: as each line says, else seed 0 of the test split. Raises
    UserError that names the line if it says otherwise, or if the task needs the document to score a completion.
    """
    completions, corpora = read_completions(task, path), {}
    judge = task.detail if detail else task.score
    for row in completions:
        for name, own, given in (("seed", row.seed, seed), ("split", row.split, split)):
            if own is not None and given is not None and own != given:
                raise UserError(f"{row.where}: is of {name} {own} and not {given}; leave --{name} out")
        key = (_first(row.seed, seed, 0), _first(row.split, split, "test"))
        if key not in corpora:
            corpora[key] = Corpus(task, *key)
        yield _score(corpora[key], judge, row)


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _score(corpus: Corpus, judge: Callable[..., dict[str, Any]], row: Completion) -> dict[str, Any]:
    example = None if row.index is None else corpus.documents(row.index, row.index + 1)[0]
    if example is not None and len(row.prompt) and not np.array_equal(row.prompt, example.prompt):
        at = f"document {row.index} of split {corpus.split}, seed {corpus.seed}"
        raise UserError(f"{row.where}: begins otherwise than {at}; give the fields, split and seed of the export")
    last = (example or corpus.documents(0, 1)[0]).tokens[-1]
    try:
        scores = judge(corpus.world, example, cut_after_end(row.ids, corpus.vocab, last == corpus.vocab.eos))
    except UserError as error:
        raise UserError(f"{row.where}: {error}") from error
    except (AttributeError, TypeError) as error:  # the task used the example, which is None
        if example is not None:
            raise
        raise UserError(
            f'{row.where}: this task needs "index", the number of the document that is completed '
            f"(without it: {type(error).__name__}: {error})"
        ) from error
    return scores if row.index is None else {"index": row.index, **scores}


def describe_means(rows: Sequence[Mapping[str, Any]]) -> str:
    """The number of completions and the mean of each of their scores, as one line."""
    names = [name for name in rows[0] if name != "index" and all(_is_score(row.get(name)) for row in rows)]
    means = (f"{name} {sum(float(row[name]) for row in rows) / len(rows):.4g}" for name in names)
    return f"{len(rows)} completions: " + (", ".join(means) or "no score that all of them have")


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float)
