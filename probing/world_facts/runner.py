"""Any language model put through the four tasks: who answers, where the answers are kept, what comes of them."""

import argparse
import re
from pathlib import Path
from typing import Any

from probing.world_facts.hf_backend import Answerer, TransformersAnswerer
from probing.world_facts.openai_backend import EndpointAnswerer
from probing.world_facts.report import rows
from probing.world_facts.response_log import Transcript
from probing.world_facts.tasks import questions
from synth.errors import UserError


def examine(options: argparse.Namespace) -> tuple[list[dict[str, Any]], Path]:
    """The rows of the table, and the file of answers. Raises UserError with what has been answered kept there."""
    _check(options)
    answerer = _answerer(options)
    spelled = re.sub(r"[^\w.-]+", "_", answerer.name)
    path = options.out or Path(f"answers-{spelled}.jsonl")
    asked = questions(options.n)
    with Transcript(path, answerer.identity) as transcript:
        try:
            _fill(transcript, asked, answerer)
        except UserError as error:
            if not transcript.said:
                raise
            kept = f"{len(transcript.said)} answers are kept in {path}, and the same command goes on"
            raise UserError(f"{error} ({kept})") from error
        return rows(asked, transcript.said), path


def _check(options: argparse.Namespace) -> None:
    for name in ("n", "tokens", "batch", "timeout"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise UserError(f"--{name} {value} must be above 0")
    if options.timeout > 1e6:
        raise UserError(f"--timeout {options.timeout:g} is longer than anyone waits; give seconds")
    if options.endpoint and not options.name:
        raise UserError("--endpoint needs --name, as the endpoint calls the model")
    if options.model and options.name:
        raise UserError("--name is for an --endpoint; a folder has one model")


def _answerer(options: argparse.Namespace) -> Answerer:
    if options.model:
        return TransformersAnswerer(options.model, options.tokens, options.batch or 16)
    return EndpointAnswerer(
        options.endpoint, options.name, options.tokens, timeout=options.timeout, at_once=options.batch or 4
    )


def _fill(transcript: Transcript, asked: list[Any], answerer: Answerer) -> None:
    from tqdm import tqdm

    done = sum(question.prompt in transcript.said for question in asked)
    with tqdm(total=len(asked), initial=done, desc=answerer.name, disable=None) as bar:
        transcript.fill(asked, answerer, bar.update)
