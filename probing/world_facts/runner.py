"""The four tasks of world facts put to a language model, with every answer written to a file as it comes."""

import re
from pathlib import Path
from typing import Any

from probing.world_facts.backend import GenerationBackend
from probing.world_facts.report import score_rows
from probing.world_facts.response_log import ResponseLog
from probing.world_facts.tasks import build_questions
from synth.errors import UserError


def run_benchmark(
    backend: GenerationBackend, num_examples: int | None = None, output: Path | None = None
) -> tuple[list[dict[str, Any]], Path]:
    """The rows of the table of scores, and the file of answers.

    num_examples: questions of each task (None: all); output: the file (None: answers-NAME.jsonl), from which an
    interrupted benchmark goes on. Raises UserError, which says how many answers the file holds, if the model fails.
    """
    file_name = re.sub(r"[^\w.-]+", "_", backend.name)
    path = output or Path(f"answers-{file_name}.jsonl")
    questions = build_questions(num_examples)
    with ResponseLog(path, backend.identity) as log:
        try:
            _collect_responses(log, questions, backend)
        except UserError as error:
            if not log.responses:
                raise
            saved = f"{len(log.responses)} answers are kept in {path}, and the same command goes on"
            raise UserError(f"{error} ({saved})") from error
        return score_rows(questions, log.responses), path


def _collect_responses(log: ResponseLog, questions: list[Any], backend: GenerationBackend) -> None:
    from tqdm import tqdm

    done = sum(question.prompt in log.responses for question in questions)
    with tqdm(total=len(questions), initial=done, desc=backend.name, disable=None) as bar:
        log.collect(questions, backend, bar.update)
