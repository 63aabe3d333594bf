"""File operations of runs and results: JSON with a checksum, locks, damaged folders, full disks."""

import errno
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth.atomic_io import content_digest, write_bytes
from synth.errors import UserError

DISK_FULL_BYTES = 1 << 20  # libraries report a full disk in their own ways; with fewer free bytes it is the cause
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # errors of a cluster's file system without locks


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8 atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically, after a line with its checksum."""
    text = json.dumps(value, indent=1)
    write_text(path, json.dumps({"checksum": content_digest(text.encode(), 8)}) + "\n" + text + "\n")


def read_json(path: Path) -> Any:
    """Read what `write_json` wrote. Raises UserError, which names the folder to delete, if the file is missing or
    damaged."""
    try:
        head, _, text = path.read_text(encoding="utf-8").partition("\n")
        if json.loads(head)["checksum"] == content_digest(text.removesuffix("\n").encode(), 8):
            return json.loads(text)
        problem = "was altered or cut short"
    except FileNotFoundError:
        problem = "is missing"
    except (ValueError, KeyError, TypeError, RecursionError, IsADirectoryError, NotADirectoryError):
        problem = "was cut short"
    raise UserError(f"{path} {problem}; delete the folder {path.parent} and run the same command again")


@contextmanager
def exclusive_lock(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, which the system frees even if the process is killed.

    Yields whether it was acquired: with `wait` always True, otherwise False while another process holds it. A file
    system without locks counts as acquired; the user must then run one command at a time.
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


def quarantine(folder: Path, problem: str, what_now: str) -> None:
    """Rename a damaged folder to NAME.damaged, in place of an earlier one, and print `problem` and `what_now`."""
    aside = folder.with_suffix(".damaged")
    print(f"{folder} {problem}; it is kept as {aside.name} and {what_now}", file=sys.stderr)
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(folder, aside)


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error came from a full disk, or one of a used-up quota, at `folder` (which need not exist)."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < DISK_FULL_BYTES
