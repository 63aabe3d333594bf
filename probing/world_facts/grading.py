"""Judging short answers in free text, by rules that can be checked by hand.

1. What counts of an answer: nothing within <think>...</think>, nothing from a further "Question:" on, no "Answer:" in
   front. Without steps it is the first line that is not empty; with steps what follows the last "So:", or, where
   nobody writes it, the last line.
2. A name is right if the line is that name, or mentions it and no other candidate. Case, accents, marks and "th" do not
   count, other spellings are those of data/aliases.csv; symbols and months, which may be common words, need their
   capitals within a sentence. Numbers are to be in digits.
3. Yes or No: the first word, or the only one of the two in the line.

So an answer that names several candidates is wrong, and so is one that names none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from probing.world_facts.facts import Names, words


@dataclass(frozen=True)
class Verdict:
    """read: what the answer was understood to say, None for nothing or several things; right: whether that is true;
    stated: whether the facts that were to be written out are in it, None where none were asked for."""

    read: str | None
    right: bool
    stated: bool | None


def judge(said: str, truth: str, names: Names | None, stated: Sequence[tuple[Names, str]] | None = None) -> Verdict:
    """Judge what was said. names: the candidates, None for Yes and No; stated: facts to be written out."""
    own = _own(said)
    line = _line(own, steps=stated is not None)
    read = _yes_or_no(line) if names is None else _named(line, names)
    told = None if stated is None else all(value in among.mentioned(own) for among, value in stated)
    return Verdict(read, read == truth, told)


def _own(said: str) -> str:
    """The answer without thoughts, without the question that a model may go on with, and without "Answer:"."""
    said = re.sub(r"<think>.*?(</think>|\Z)", "", said, flags=re.S)
    said = re.split(r"\n\W*Question:", said)[0].strip()
    return re.sub(r"^\W*Answer:", "", said).strip()


def _line(own: str, steps: bool) -> str:
    if steps and (found := re.split(r"\bso:", own, flags=re.I))[1:]:
        own, steps = found[-1].lstrip("* "), False
    lines = [line for line in own.splitlines() if line.strip()] or [""]
    return lines[-1 if steps else 0]


def _named(line: str, names: Names) -> str | None:
    found = names.mentioned(line)
    return names.whole(line) or (found.pop() if len(found) == 1 else None)


def _yes_or_no(line: str) -> str | None:
    said = [word for word in words(line) if word in ("yes", "no")]
    if words(line)[:1] == tuple(said[:1]) or len(set(said)) == 1:
        return said[0].capitalize() if said else None
    return None
