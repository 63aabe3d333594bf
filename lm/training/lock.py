"""A lock on the folder of a training, so that no two processes write to it."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synth.errors import UserError


@contextmanager
def exclusive_lock(home: Path) -> Iterator[None]:
    """Create the folder and hold a lock on it, which the system frees when the process ends, however it ends.

    Raises UserError when the folder cannot be created or another process holds the lock. Does not lock where the file
    system has no locks.
    """
    handle = None
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = os.open(home, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)  # type: ignore[arg-type]
        raise UserError(f"another process is training in {home}; wait for it or use another folder") from None
    except OSError as error:
        if handle is None:
            raise unwritable(home, error) from error
    try:
        yield
    finally:
        os.close(handle)


def unwritable(home: Path, error: OSError) -> UserError:
    mend = "free some space" if error.errno == errno.ENOSPC else "use a folder that can be written"
    return UserError(f"cannot write to {home} ({error.strerror or error}); {mend} and run again")
