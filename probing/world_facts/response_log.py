"""A log of responses: a JSON lines file whose first line identifies the back end, then one line per response.

Prompts with a response in the file are not sent again, so that an interrupted benchmark resumes, also after a crash in
the middle of a line. The grades in the file are for readers; `score_rows` grades the responses again.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from probing.world_facts.backend import GenerationBackend
from probing.world_facts.tasks import WorldQuestion
from synth.errors import UserError

VERSION = 1  # of the file format


class ResponseLog:
    """responses: by prompt. A context manager that holds an exclusive lock on the file."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Open or create the log of the back end with this identity.

        Raises UserError for a file that is no log, belongs to another back end, is locked or cannot be written.
        """
        self.path, self.responses = path, dict[str, str]()
        self._identity = {"version": VERSION, **identity}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}; give another --output") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load()
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"another process is writing to {path}; wait for it or give another --output") from error
        except UserError:
            self._file.close()
            raise

    def __enter__(self) -> "ResponseLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def _load(self) -> None:
        self._file.seek(0)
        complete, _, partial = self._file.read().rpartition(b"\n")
        head, *lines = complete.split(b"\n")
        if not complete:
            if partial and not partial.startswith(b'{"version"'):
                raise self._not_a_log_error()
            self._file.truncate(0)
            self._append(self._identity)
            return
        if (identity := self._parse_line(head)) != self._identity:
            if identity.get("version") != VERSION:
                raise self._not_a_log_error()
            keys = identity.keys() | self._identity.keys()
            key = next(key for key in keys if identity.get(key) != self._identity.get(key))
            raise UserError(
                f"{self.path} holds answers with another {key} ({identity.get(key)}); "
                "give another --output, or remove it"
            )
        self.responses = {line["prompt"]: line["answer"] for line in map(self._parse_line, lines)}
        if partial:
            self._file.truncate(len(complete) + 1)

    def _parse_line(self, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line)
            fields = ("version",) if "version" in entry else ("prompt", "answer")
            assert all(isinstance(entry[field], (int, str)) for field in fields)
            return entry
        except (ValueError, RecursionError, KeyError, TypeError, AssertionError) as error:
            raise self._not_a_log_error() from error

    def _not_a_log_error(self) -> UserError:
        return UserError(f"{self.path} is no file of answers, or was altered; give another --output")

    def _append(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {os.strerror(error.errno or 0)}; make room") from error

    def collect(self, questions: Sequence[WorldQuestion], backend: GenerationBackend, progress: Any = None) -> None:
        """Generate and log the missing responses; progress() is called after each.

        Raises UserError if a response cannot be generated, with the completed ones in the log.
        """
        missing = [question for question in questions if question.prompt not in self.responses]
        for i, response in backend.generate([question.prompt for question in missing]):
            question, grade = missing[i], missing[i].grade(response)
            self.responses[question.prompt] = response
            entry = {"task": question.task, "steps": question.with_steps, "about": question.relation.name}
            entry |= {"question": question.text, "prompt": question.prompt, "answer": response}
            entry |= {"truth": question.truth, "read": grade.parsed_answer, "right": grade.is_correct}
            self._append(entry | {"stated": grade.facts_stated})
            if progress:
                progress()
