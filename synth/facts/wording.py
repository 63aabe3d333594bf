"""The sentences that tell and ask facts, as words: defaults, and a file with a line a sentence.

The {attribute} of {name} is {value}.          a statement
What is the {attribute} of {name}?             a question: it ends in ? and has no {value}
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from synth.atomic_io import read_at_most
from synth.errors import UserError

MAX_FILE_BYTES = 1_000_000
STATEMENTS = (
    "The {attribute} of {name} is {value}.",
    "{name} has the {attribute} {value}.",
    "Its {attribute} is {value}.",
    "As for the {attribute}, it is {value}.",
)
QUESTIONS = ("What is the {attribute} of {name}?",)
NAME, ATTRIBUTE, VALUE = "{name}", "{attribute}", "{value}"
HEADING = ("About", NAME, ":")
ANSWER = ("Answer", ":")
STOP = "."  # behind an answer, so that a value is told from a longer one that begins with it

Words = tuple[str, ...]


@dataclass(frozen=True)
class Wording:
    """Statements and questions as words, among them the slots {name}, {attribute} and {value}; questions end with
    `ANSWER`, the value and the full stop."""

    statements: tuple[Words, ...]
    questions: tuple[Words, ...]

    @property
    def words(self) -> set[str]:
        """The words that are no slots."""
        return {word for line in (HEADING, *self.statements, *self.questions) for word in line} - {
            NAME,
            ATTRIBUTE,
            VALUE,
        }


def words_of(text: str) -> Words:
    """The words of a name or value: what white space separates, in the one spelling of Unicode (NFC)."""
    return tuple(unicodedata.normalize("NFC", text).split())


def split_sentence(text: str) -> Words:
    """The words, punctuation marks and {slots} of a sentence."""
    text = unicodedata.normalize("NFC", text)
    return tuple(re.findall(r"\{[^{}\s]*\}|'s\b|[^\W_](?:[\w'’-]*\w)?|[^\w\s]", text))


def read_wording(path: str | None) -> Wording:
    """The sentences of a file (None: the defaults); a kind that the file does not have is the default one.

    Raises UserError with the line of a sentence that lacks a slot or has one that there is not.
    """
    lines = [*enumerate((*STATEMENTS, *QUESTIONS), 1)] if path is None else _read_lines(path)
    statements, questions = list[Words](), list[Words]()
    for number, line in lines:
        words = split_sentence(line)
        asks = words[-1:] == ("?",) and VALUE not in words
        needed, may = ((NAME, ATTRIBUTE), ()) if asks else ((ATTRIBUTE, VALUE), (NAME,))
        _check_slots(words, needed, may, f"{path}, line {number}")
        (questions if asks else statements).append((*words, *ANSWER, VALUE, STOP) if asks else words)
    default = None if path is None else read_wording(None)
    if default is not None:
        statements, questions = statements or list(default.statements), questions or list(default.questions)
    return Wording(tuple(statements), tuple(questions))


def _read_lines(path: str) -> list[tuple[int, str]]:
    """The lines of a file that hold something, with their numbers."""
    try:
        text = read_at_most(Path(path), MAX_FILE_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give a file with a sentence a line") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8; save it as UTF-8") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path} holds no sentence; write, for example, {STATEMENTS[0]}")
    return lines


def _check_slots(words: Words, needed: Words, may: Words, where: str) -> None:
    """Raise UserError unless a sentence has each needed slot once, and those that it may have at most once."""
    slots = [word for word in words if word.startswith("{")]
    if set(slots) - {*needed, *may} or set(needed) - set(slots) or len(slots) > len(set(slots)):
        raise UserError(
            f"{where}: the sentence has {' '.join(slots) or 'no slots'}; it needs {' and '.join(needed)}, each once"
        )
