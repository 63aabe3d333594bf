"""Signals that end a training: the step under way is finished and saved before the process goes.

Beside Ctrl-C and SIGTERM, those that announce the end of a Slurm job's time: --signal=USR1@90 asks for the first,
submitit sends the second and has a handler for it that puts the job in the queue again.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def postponed() -> Iterator[list[int]]:
    """Yields a list that gets the number of a signal when one comes; on leaving, it does what it would have done.

    A second signal works at once. Signals that are ignored stay so, and outside the main thread, where Python takes no
    signals, nothing is postponed.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, frame: Any) -> None:
        came.append(number)
        signal.signal(number, before[number])  # type: ignore[index]

    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
