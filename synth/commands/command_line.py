"""Shared by all command lines: parsing with tyro, and bad input as one line on standard error."""

import difflib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from synth.errors import UserError
from synth.registry import task_class
from synth.task import Task

UNNAMEABLE = (errno.ENAMETOOLONG, errno.ELOOP)
MAX_MESSAGE_CHARS = 2000  # a file may hold a symbol of a million characters


class HelpShown(SystemExit):
    """The help page has been printed: the command is done, with status 0."""


# ---- parsing -----------------------------------------------------------------------------------------------------
def choose_command(
    prog: str, about: str, commands: Mapping[str, Any], argv: Sequence[str] | None = None
) -> tuple[str, list[str]]:
    """The command that an argument list names, and the arguments after it (default: those of the process).

    Prints the help page and raises HelpShown for --help. Raises UserError for an unknown command.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    check_arguments(argv)
    if argv and argv[0] in ("-h", "--help", "help"):
        lines = (f"  {name:11} {(command.__doc__ or '').splitlines()[0]}" for name, command in commands.items())
        print(f"usage: {prog} COMMAND ...\n\n{about.strip()}\n")
        print("commands:", *lines, f"\n`{prog} COMMAND --help` explains its options.", sep="\n")
        raise HelpShown(0)
    if not argv:
        raise UserError(f"which command? choose {', '.join(commands)}; see {prog} --help")
    if argv[0] not in commands:
        near = nearest(argv[0], commands)
        raise UserError(f"unknown command {argv[0]!r}; {near}choose {', '.join(commands)}")
    return argv[0], argv[1:]


def parse(kind: Any, prog: str, argv: Sequence[str] | None = None, **settings: Any) -> Any:
    """An instance of the dataclass `kind` from command-line arguments (default: those of the process), with tyro.

    settings: further arguments of tyro.cli. Raises HelpShown after --help, and UserError, with the nearest flag
    for an unknown one, on bad arguments.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    check_arguments(argv)
    settings |= {"prog": prog}
    box, unknown = io.StringIO(), list[str]()
    try:
        with redirect_stderr(box), _unwrapped(argv):
            parsed, unknown = tyro.cli(kind, args=argv, return_unknown_args=True, **settings)
        if not unknown:
            print(box.getvalue(), end="", file=sys.stderr)  # what the code of a user's file printed
            return parsed
    except SystemExit as leaving:
        if leaving.code != 2:
            raise HelpShown(0) from None
    flags = _flags(kind, settings)
    misspelt = [word for word in argv if word.startswith("--") and _flag_of(word) not in flags]
    if misspelt or unknown:
        word = (misspelt or unknown)[0]
        raise UserError(f"unknown argument {word}; {nearest(_flag_of(word), flags) or f'see {prog} --help'}".rstrip())
    raise UserError(_message(box.getvalue()))


@contextmanager
def _unwrapped(argv: Sequence[str]) -> Iterator[None]:
    """Keep tyro from breaking the lines of an error; those of a help page fit the terminal."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(argv):
        os.environ["COLUMNS"] = "1000000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X? ` with the most similar known word; empty if none is similar."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]}? " if near else ""


def check_positive(options: Any, *names: str) -> None:
    """Raise UserError for an option that is neither None nor a finite number above 0."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            wanted = "whole number of at least 1" if isinstance(value, int) else "number above 0"
            raise UserError(f"--{name.replace('_', '-')} {value} is not a {wanted}")


def _flags(kind: Any, settings: dict[str, Any]) -> list[str]:
    """Every flag that the help page of a command lists."""
    page = io.StringIO()
    with redirect_stdout(page), suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **settings)
    lines = [line.strip("│ ") for line in _plain(page.getvalue()).splitlines()]
    return [flag for line in lines if line.startswith("-") for flag in re.findall(r"--[\w.-]+", line.split("  ")[0])]


def _flag_of(word: str) -> str:
    return word.partition("=")[0].replace("_", "-")


def _plain(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def _message(box: str) -> str:
    """What a box of tyro's says is wrong: the first of its parts, which rules separate, after its title."""
    box = _plain(box)
    lines = [line.strip("│| ") for line in box[max(box.find("╭"), 0) :].splitlines()[1:]]
    parts = "\n".join("\0" if line and not re.search(r"\w", line) else line for line in lines).split("\0")
    text = " ".join(next((part for part in parts if part.strip()), "").split())
    text = re.sub(r"^Error parsing (?!-)\S+: ", "", text).removeprefix("Error parsing ")
    flag, got, reasons = text.partition(" Got errors: ")
    if got:  # a field of several types: the last one says most, as None comes first
        text = f"{flag.split(':')[0]}: {re.split(r'- (?:<class [^>]*>|typing[^:]*): ', reasons)[-1]}"
    return text


# ---- tasks and configuration files ---------------------------------------------------------------------------------
def split_task(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The task that an argument list names first or after --task (else None), and the other arguments."""
    rest = list(argv)
    if "--task" in rest:
        at = rest.index("--task")
        rest = rest[at + 1 : at + 2] + rest[:at] + rest[at + 2 :]
    if not rest or rest[0].startswith("-"):
        return None, rest
    return rest[0], rest[1:]


def parse_with_task(kind: type, prog: str, spec: str, argv: Sequence[str]) -> tuple[Any, Task, Task]:
    """The options of a command, the task with its fields from the arguments, and the task of `spec` alone.

    Options and the task's fields are one flat list of flags. Raises UserError on bad arguments.
    """
    cls, preset = task_class(spec)
    default = cls(**preset)
    if shared := {f.name for f in fields(kind)} & {f.name for f in fields(cls)}:
        raise UserError(f"field {min(shared)} of {spec} is an option of {prog} too; give the field another name")
    flat = tyro.conf.arg(name="")
    parts: list[Any] = [("options", Annotated[kind, flat]), ("task", Annotated[cls, flat], field(default=default))]
    both = make_dataclass(f"{kind.__name__}{cls.__name__}", parts)
    parsed = parse(both, f"{prog} {spec}", argv, description=kind.__doc__)
    return parsed.options, parsed.task, default


def changed_fields(default: Task, task: Task) -> dict[str, Any]:
    """Fields of a task that differ from `default`, as plain values."""
    before = asdict(default)
    return {name: value for name, value in asdict(task).items() if value != before[name]}


def task_from_fields(spec: str, values: Mapping[str, Any], path: Path) -> Task:
    """The task `spec` with field values from the file `path`. Raises UserError that names the file for bad ones."""
    cls, preset = task_class(spec)
    try:
        return parse(cls, str(path), words_from_mapping(values, cls), default=cls(**preset))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def words_from_mapping(values: Mapping[Any, Any], kind: type, prefix: str = "") -> list[str]:
    """Command-line arguments that set the fields of a dataclass to values from a file.

    Raises UserError that names the key for an unknown field or a value of the wrong kind.
    """
    hints, words = get_type_hints(kind), list[str]()
    names = [f.name for f in fields(kind)]
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in names:
            mend = nearest(str(key), names) or f"choose among {', '.join(names)}"
            raise UserError(f"unknown key {name}; {mend.rstrip()}")
        hint = hints[key]
        flag = f"--{name}".replace("_", "-")
        sequence = "tuple" in str(hint) or "list" in str(hint)
        if is_dataclass(hint) and isinstance(value, Mapping):
            words += words_from_mapping(value, hints[key], f"{name}.")
        elif hint is bool and isinstance(value, bool):
            words.append(flag if value else f"--{prefix}no-{key}".replace("_", "-"))
        elif sequence and isinstance(value, list) and not any(str(each).startswith("--") for each in value):
            words += [flag, *map(str, value)]
        elif is_dataclass(hint) or hint is bool or isinstance(value, Mapping | list | set):
            wanted = "keys of its own" if is_dataclass(hint) else "true or false" if hint is bool else "one value"
            raise UserError(f"{name} takes {'a list of values' if sequence else wanted}")
        else:
            words.append(f"{flag}={value}")
    return words


# ---- errors --------------------------------------------------------------------------------------------------------
def guarded(command: Callable[[], None], on_interrupt: str, explain: Callable[[OSError], str] | None = None) -> int:
    """Run a command and return its exit status: 0; 2 for bad input, after one line on standard error; 130 for Ctrl-C.

    on_interrupt: printed after Ctrl-C. explain: message for an OSError; by default file, reason and correction.
    """
    try:
        try:
            command()
        except HelpShown:
            pass
        flush()
    except UserError as error:
        complain(error)
        return 2
    except OSError as error:
        lost = output_lost()
        if isinstance(error, BrokenPipeError):  # `... | head`
            return 0
        complain(f"the output: {error.strerror}; write it elsewhere" if lost else (explain or _explain)(error))
        return 2
    except MemoryError as error:
        complain(
            f"out of memory{f' ({error})' if str(error) else ''}; take a smaller model, batch or number of samples"
        )
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; {on_interrupt}", file=sys.stderr)
        return 130
    return 0


def _explain(error: OSError) -> str:
    mend = "give another name" if error.errno in UNNAMEABLE else "mend this and run the same command again"
    return f"{error.filename or 'the output'}: {error.strerror or error}; {mend}"


def one_line(message: object) -> str:
    """The message as one line of at most about MAX_MESSAGE_CHARS, with control characters escaped."""
    text = str(message)
    if len(text) > MAX_MESSAGE_CHARS:
        text = f"{text[: MAX_MESSAGE_CHARS // 2]} ... {text[-MAX_MESSAGE_CHARS // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def complain(error: object) -> None:
    """Print an error on standard error, as one line. What the terminal cannot write is escaped; if standard error is
    closed, the exit status alone tells."""
    text = f"error: {one_line(error)}"
    with suppress(OSError, ValueError, AttributeError):
        encoding = sys.stderr.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise UserError for an argument that is not UTF-8 or holds a NUL character."""
    for text in arguments:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"the argument {text!r} is not UTF-8; rename what it names") from None
        if "\0" in text:
            raise UserError(f"the argument {text!r} holds a NUL character, which no name has; leave it out")


def output_lost() -> bool:
    """Whether standard output fails; if so, drop its buffer, which Python would try to write again at exit."""
    try:
        flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def flush() -> None:
    """Flush standard output, while an error can still be reported. Raises OSError."""
    print(end="", flush=True)  # there may be no standard output at all


def no_such_name(error: OSError) -> UserError:
    """UserError for a path that no file system accepts (too long, too many links). Raises any other error again."""
    if error.errno not in UNNAMEABLE:
        raise error
    return UserError(f"{error.filename}: {error.strerror}; give another name")
