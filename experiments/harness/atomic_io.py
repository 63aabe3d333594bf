"""What runs and results add to atomic writes (synth.atomic_io): a checksum, a lock per run, the sign of a full disk."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth.atomic_io import sync, write_bytes
from synth.errors import UserError

NEARLY_FULL = 1 << 20  # libraries report a full disk in their own ways; below this many free bytes we know the cause
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what a cluster's file system that has none may say


def sync_tree(folder: Path) -> None:
    """Ask the system to bring everything in a folder to the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def write_text(path: Path, text: str) -> None:
    """Write text, in UTF-8, that a reader finds old or new, never half."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value together with a checksum of it."""
    text = json.dumps(value, indent=1)
    write_text(path, json.dumps({"checksum": _checksum(text)}) + "\n" + text + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises UserError that names the folder to delete when the file is not whole."""
    try:
        head, _, text = path.read_text(encoding="utf-8").partition("\n")
        if json.loads(head)["checksum"] == _checksum(text.removesuffix("\n")):
            return json.loads(text)
        problem = "was altered or cut short"
    except FileNotFoundError:
        problem = "is missing"
    except (ValueError, KeyError, TypeError, RecursionError, IsADirectoryError, NotADirectoryError):
        problem = "was cut short"
    raise UserError(f"{path} {problem}; delete the folder {path.parent} and run the same command again")


def _checksum(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock that the system frees when the process ends however it ends; yields False when it is taken.

    Where the file system has no locks it goes without: one command at a time is then up to the user.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield True


def put_aside(folder: Path, problem: str, what_now: str) -> None:
    """Rename a folder of ours that is not whole to NAME.damaged, in the place of an earlier one, and say so."""
    aside = folder.with_suffix(".damaged")
    print(f"{folder} {problem}; it is kept as {aside.name} and {what_now}", file=sys.stderr)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)


def disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error came from a full disk."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < NEARLY_FULL
