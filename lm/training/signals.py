"""Signals that end a training: the current step is finished and saved before the process ends.

Beside Ctrl-C (SIGINT) and SIGTERM these are the signals before a Slurm job's time limit: SIGUSR1, as
`sbatch --signal=USR1@90` asks for, and SIGUSR2, which submitit sends; submitit's own handler then requeues the job.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def defer_signals() -> Iterator[list[int]]:
    """Yield a list to which the number of a first signal is appended; on exit that signal is raised again.

    A second signal acts at once. Ignored signals stay ignored. Outside the main thread, where Python handles no
    signals, nothing is deferred.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])  # type: ignore[index]

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
