"""Files that are whole or absent: written under a temporary name beside, forced to disk, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from synth.errors import UserError


def sync(path: Path) -> None:
    """Ask the system to bring a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_at_most(path: Path, most: int) -> bytes:
    """The content of a file. Raises UserError for one of more than `most` bytes, and for what has no end to be found,
    such as a device or a pipe; OSError."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; copy what it holds into one")
    with path.open("rb") as file:
        content = file.read(most + 1)  # its size may be said to be 0, as under /proc
    if len(content) > most:
        raise UserError(f"{path} has more than {most:,} bytes; give a smaller file")
    return content


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path`, to be written in the block, that takes its place only when the block ends well.

    A reader finds the old file or the new one, never a part, and a failure leaves the old one. Folders that lack are
    made. Raises OSError that names `path`, whatever file or disk the system complained about.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")  # two processes, of two machines, write to two files
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)  # the rename itself must reach the disk
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):  # on a broken disk this fails too, and the first error says why
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """The same for a file whose content is at hand."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
