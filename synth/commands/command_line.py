"""What all command lines share: one line for what is wrong, whatever characters and lengths the input has."""

import argparse
import difflib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from synth.errors import UserError

UNNAMEABLE = (errno.ENAMETOOLONG, errno.ELOOP)
LONGEST = 2000  # characters of a message: a file may hold a symbol of a million


def one_line(message: object) -> str:
    """The message as a line that a terminal only prints: characters that would move it or colour it are spelled out."""
    text = str(message)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def complain(error: object) -> None:
    """Print it on standard error, as what a user can mend."""
    print(f"error: {one_line(error)}", file=sys.stderr)


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise UserError for what can be no argument of ours, before it comes to a place that knows no answer to it."""
    for text in arguments:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"the argument {text!r} is not UTF-8; rename what it names") from None
        if "\0" in text:
            raise UserError(f"the argument {text!r} holds a NUL character, which no name has; leave it out")


def output_lost() -> bool:
    """Whether standard output takes no more of what was printed. The rest is dropped: Python would try again at exit,
    and say so in lines of its own."""
    try:
        flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def flush() -> None:
    """Bring what was printed to where it goes, while an error can still be told. Raises OSError."""
    print(end="", flush=True)  # there may be no standard output at all


def no_such_name(error: OSError) -> UserError:
    """What to say of a path that no file system has room for. Raises any other error again."""
    if error.errno not in UNNAMEABLE:
        raise error
    return UserError(f"{error.filename}: {error.strerror}; give another name")


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and the nearest flag."""

    def __init__(self, **options: Any) -> None:
        self.flags: list[str] = []
        super().__init__(**options, allow_abbrev=False)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        self.flags += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        try:
            check_arguments(sys.argv[1:] if args is None else args)
        except UserError as error:
            self.error(str(error))
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self.flags, 1)
            self.error(f"unknown argument {unknown[0]}" + (f"; did you mean {near[0]}?" if near else "; see --help"))
        return known, unknown

    def error(self, message: str) -> NoReturn:
        complain(message)
        raise SystemExit(2)
