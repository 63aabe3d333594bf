"""Answers that are kept as they come: a file of JSON lines, first who answers, then a line for each answer.

A prompt that has an answer in the file is not asked again, so that a stopped examination goes on where it was, also
after a line was cut by a crash. Verdicts are written for readers; a table judges the answers anew.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from probing.world_facts.hf_backend import Answerer
from probing.world_facts.tasks import WorldQuestion
from synth.errors import UserError

VERSION = 1  # of the file


class Transcript:
    """said: the answer to each prompt. Used in a with block, during which no other process may write to the file."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Open or begin it. Raises UserError for a file that is another model's, no transcript, in use or not to be
        written."""
        self.path, self.said = path, dict[str, str]()
        self._identity = {"version": VERSION, **identity}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}; give another --out") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"another process is writing to {path}; wait for it or give another --out") from error
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> "Transcript":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        whole, _, cut = self._file.read().rpartition(b"\n")
        head, *lines = whole.split(b"\n")
        if not whole:
            if cut and not cut.startswith(b'{"version"'):
                raise self._foreign()
            self._file.truncate(0)
            self._append(self._identity)
            return
        if (began := self._parsed(head)) != self._identity:
            if began.get("version") != VERSION:
                raise self._foreign()
            other = next(
                key for key in began.keys() | self._identity.keys() if began.get(key) != self._identity.get(key)
            )
            raise UserError(
                f"{self.path} holds answers with another {other} ({began.get(other)}); give another --out, or remove it"
            )
        self.said = {line["prompt"]: line["answer"] for line in map(self._parsed, lines)}
        if cut:
            self._file.truncate(len(whole) + 1)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
            fields = ("version",) if "version" in found else ("prompt", "answer")
            assert all(isinstance(found[field], (int, str)) for field in fields)
            return found
        except (ValueError, RecursionError, KeyError, TypeError, AssertionError) as error:
            raise self._foreign() from error

    def _foreign(self) -> UserError:
        return UserError(f"{self.path} is no file of answers, or was altered; give another --out")

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {os.strerror(error.errno or 0)}; make room") from error

    def fill(self, questions: Sequence[WorldQuestion], answerer: Answerer, progress: Any = None) -> None:
        """Have all questions answered that are not yet. progress is called after every answer. Raises UserError where
        answers cannot be had, with those that could in the file."""
        asked = [question for question in questions if question.prompt not in self.said]
        for number, answer in answerer.answer([question.prompt for question in asked]):
            question, verdict = asked[number], asked[number].judge(answer)
            self.said[question.prompt] = answer
            what = {"task": question.task, "steps": question.steps, "about": question.about.name}
            truth = {"truth": question.truth, "read": verdict.read, "right": verdict.right, "stated": verdict.stated}
            self._append({**what, "question": question.text, "prompt": question.prompt, "answer": answer, **truth})
            if progress:
                progress()
