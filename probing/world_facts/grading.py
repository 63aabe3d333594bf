"""Grading of short free-text answers, by rules that can be checked by hand.

1. Ignored: thoughts, which end with the last closing mark (</think>, [/THINK], the final channel of gpt-oss, ...) and
   without one reach to the end, text from a further "Question:" on, and a leading "Answer:". Graded: without
   steps the first non-empty line; with steps the text after the last "So:", or the last line if there is none.
2. A name is correct if the line is that name, or mentions it and no other candidate. Case, accents, punctuation and
   "th" are ignored; other spellings are those of data/aliases.csv. Symbols and months, which may be common words, need
   their capitals within a sentence. Numbers must be in digits.
3. Yes or No: the first word of the line, or the only one of the two in it.

An answer that names several candidates, or none, is wrong.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from probing.world_facts.facts import CandidateNames, normalize_words

THOUGHT = "think|thinking|thought|reasoning"
CLOSING = re.compile(rf"</(?:{THOUGHT})>|\[/THINK\]|<\|channel\|>\s*final\s*<\|message\|>|<\|end_of_thought\|>", re.I)
OPENING = re.compile(rf"<(?:{THOUGHT})>|\[THINK\]|<\|channel\|>\s*(?:analysis|commentary)|<\|begin_of_thought\|>", re.I)
SPECIAL = re.compile(r"<\|(?:return|end|im_end|endoftext|eot_id|message)\|>", re.I)  # that a server left in its text


@dataclass(frozen=True)
class Grade:
    """parsed_answer: the candidate that the response names, None for none or several. is_correct: whether it is the
    truth. facts_stated: whether the response contains all required facts; None if none were required."""

    parsed_answer: str | None
    is_correct: bool
    facts_stated: bool | None


def grade_response(
    response: str,
    truth: str,
    candidates: CandidateNames | None,
    required_facts: Sequence[tuple[CandidateNames, str]] | None = None,
) -> Grade:
    """Grade a response.

    candidates: the possible answers; None for Yes and No. required_facts: values, each with its candidates, that the
    response must state before the answer; None: the answer is expected at once.
    """
    text = _strip_thinking_and_echo(response)
    line = _answer_line(text, with_steps=required_facts is not None)
    parsed = _parse_yes_or_no(line) if candidates is None else _parse_candidate(line, candidates)
    stated = None if required_facts is None else all(v in names.find_mentions(text) for names, v in required_facts)
    return Grade(parsed, parsed == truth, stated)


def _strip_thinking_and_echo(response: str) -> str:
    """The response without thinking, without a question that the model continues with, and without "Answer:"."""
    response = CLOSING.split(response)[-1]  # a template may have opened the thought, so that only its end is there
    response = OPENING.split(response)[0]
    response = SPECIAL.sub(" ", response)
    response = re.split(r"\n[^\w\n]*Question:", response)[0].strip()
    return re.sub(r"^\W*Answer:", "", response).strip()


def _answer_line(text: str, with_steps: bool) -> str:
    if with_steps and (parts := re.split(r"\bso:", text, flags=re.I))[1:]:
        text, with_steps = parts[-1].lstrip("* "), False
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return lines[-1 if with_steps else 0]


def _parse_candidate(line: str, candidates: CandidateNames) -> str | None:
    mentions = candidates.find_mentions(line)
    return candidates.match_whole(line) or (mentions.pop() if len(mentions) == 1 else None)


def _parse_yes_or_no(line: str) -> str | None:
    words = normalize_words(line)
    answers = [word for word in words if word in ("yes", "no")]
    if words[:1] == tuple(answers[:1]) or len(set(answers)) == 1:
        return answers[0].capitalize() if answers else None
    return None
