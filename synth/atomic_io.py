"""Atomic writes: to a temporary file in the same folder, forced to disk, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

from synth.errors import UserError


def sync(path: Path) -> None:
    """Force a file, or the entries of a folder, to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_at_most(path: Path, max_bytes: int) -> bytes:
    """Content of a file. Raises UserError for more than `max_bytes` and for no regular file (device, pipe); OSError."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; copy what it holds into one")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)  # stat may report size 0, as under /proc
    if len(content) > max_bytes:
        raise UserError(f"{path} has more than {max_bytes:,} bytes; give a smaller file")
    return content


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; replace `path` by that file if the block succeeds.

    A reader sees the old or the new file, never a part, and a failure leaves the old one. Missing folders are created.
    Every OSError names `path`.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")  # distinct for processes on several machines
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
    """Write a file atomically (see atomic_replace). Raises OSError."""
    with atomic_replace(path) as temporary:
        temporary.write_bytes(content)


def publish_folder(partial: Path, final: Path, replace: bool = False) -> None:
    """Force a folder with everything in it to disk, then rename it to `final`; replace: in place of an older one.

    Raises OSError when `final` exists and is not to be replaced.
    """
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    if replace and final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    sync(final.parent)  # the rename itself must reach the disk


def content_digest(data: bytes, size: int = 16) -> str:
    """BLAKE2b digest of `size` bytes, as hexadecimal characters."""
    return blake2b(data, digest_size=size).hexdigest()
