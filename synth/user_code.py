"""Loading a user's own Python file, given as path/to/file.py:Class; it runs only if the user named it."""

import importlib.util
import os
import sys
from multiprocessing import parent_process
from pathlib import Path
from types import ModuleType

from synth.errors import UserError
from synth.identity import digest

_trusted: set[str] = set()  # hashes of path and content of the files that may run in this process


def is_file_spec(spec: str) -> bool:
    """Whether the spec of a task or mixer names a file (path.py:Class)."""
    return ".py" in spec


def spec_path(spec: str) -> Path:
    """Path part of a `path.py:Class` spec."""
    return Path(spec.partition(":")[0])


def _read(path: Path, kind: str) -> tuple[str, bytes]:
    """Hash of a file's path and content, and the content. Raises UserError for a missing file."""
    try:
        if path.is_file():
            content = path.read_bytes()
            return digest([str(path.resolve()), content.hex()], 6), content
    except OSError:  # name too long, or no permission
        pass
    raise UserError(f"no file {path}; a {kind} of your own is given as path/to/file.py:Class")


def trust(path: str | Path) -> None:
    """Allow a file's present code to run where only a saved model names the file. Raises UserError if it is missing."""
    _trust(Path(path), _read(Path(path), "task or a mixer")[0])


def _trust(path: Path, identity: str) -> None:
    """Remember the file; the process whose command line names it reports that, workers and other ranks do not."""
    first = os.environ.get("RANK", "0") == "0" and parent_process() is None
    if identity not in _trusted and first and any(_names(argument, path) for argument in sys.argv[1:]):
        print(f"running the code of {path}", file=sys.stderr)
    _trusted.add(identity)


def _names(argument: str, path: Path) -> bool:
    """Whether an argument names the file: FILE.py, FILE.py:Class or --flag=FILE.py."""
    return path.name in (spec_path(argument).name, spec_path(argument.partition("=")[2]).name)


def require_trust(path: Path, where: str | Path) -> None:
    """Raise UserError if only the file `where` names this code, not the user: files are data and must not choose what
    runs."""
    if _read(path, "task or a mixer")[0] not in _trusted:
        mend = f"give --trust-code {path}, or call synth.user_code.trust({str(path)!r}) before"
        raise UserError(f"{where} names code, {path}, which runs only if you name it too: {mend}")


def load_file(path: Path, kind: str = "task") -> ModuleType:
    """Import a file as a module, once for each content; kind ("task", "mixer") is for messages.

    The user must have given the path; check one read from a file with `require_trust` first. Raises UserError if the
    file is missing or fails to import.
    """
    identity, content = _read(path, kind)
    _trust(path, identity)
    name = f"_{kind}_{identity}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UserError(f"{path} is not a Python file; a {kind} of your own is given as path/to/file.py:Class")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up their module here
    try:
        # not spec.loader.exec_module, which would run a cached .pyc instead of the content that was hashed
        exec(compile(content, path, "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module
