"""A sweep that is killed, stopped or run twice at once ends with the table of one that nobody disturbed."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from faulty import RUNS, STEPS, STOPPED, Command, Sweep

from experiments.harness.atomic_io import read_json

PHASES = ("training", "evaluation", "table, figure, ledger")


class Phases:
    """What a command has come to, by what lies on the disk and what lay there when it began."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.before = sweep, self.signs(sweep)

    @staticmethod
    def signs(sweep: Sweep) -> tuple[int, set[Any], int]:
        partial = set()
        for path in sweep.runs.glob("*.partial"):
            with suppress(FileNotFoundError):  # the run has just ended
                partial.add((path.name, path.stat().st_mtime_ns))
        return sum(map(len, sweep.logged().values())), partial, len(sweep.finished())

    def now(self) -> str:
        rows, partial, done = self.signs(self.sweep)
        if partial - self.before[1]:
            return "evaluation"
        if done > self.before[2] or done == RUNS:
            return "table, figure, ledger"
        return "training" if rows > self.before[0] else "start"


def test_twenty_kills_at_random_moments(sweep: Sweep, whole: str) -> None:
    """Each a random while after a sweep has come to a phase, in order: commands on a busy machine take their time.

    A quick machine may have done all runs before a phase was met: they are done again until it is.
    """
    moments, phases, seen = random.Random(20), Counter[str](), dict[str, Any]()
    while (kills := phases.total()) < 20 or min(phases[each] for each in PHASES) == 0:
        assert kills < 80, phases
        awaited, longest = (PHASES, 0.15) if kills < 7 else (PHASES[1:], 0.1) if kills < 14 else (PHASES[2:], 0.3)
        missed = [each for each in PHASES[:2] if not phases[each]]
        if missed and len(sweep.finished()) == RUNS:
            shutil.rmtree(sweep.runs)
            seen = {}
        if missed and kills >= 7:
            awaited, longest = tuple(missed), 0.02
        at, command = Phases(sweep), sweep.start()
        command.wait(until=lambda at=at, awaited=awaited: at.now() in awaited)  # type: ignore[misc]
        end = time.monotonic() + moments.uniform(0, longest)
        command.wait(until=lambda end=end: time.monotonic() > end)  # type: ignore[misc]
        if command.status is None:
            command.send(signal.SIGKILL)
            assert command.wait() == -signal.SIGKILL
            phases[at.now()] += 1
        assert seen.items() <= sweep.finished().items()
        seen = sweep.finished()
    print(dict(phases))
    sweep.goes_on(whole)


def test_two_commands_at_once(sweep: Sweep, whole: str) -> None:
    commands = [sweep.start() for _ in range(2)]
    for command in commands:
        assert command.wait() == 0, command.text
    assert sweep.table() == whole
    sweep.goes_on(whole)


def alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie's is empty
    except OSError:
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers(command: Command) -> list[int]:
    """The children of the server that the command has started."""
    servers = [pid for pid in children(command.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [pid for server in servers for pid in children(server)]


def test_two_workers_are_stopped_then_killed_then_left_by_their_parent(sweep: Sweep, whole: str) -> None:
    def started(until: Callable[[], bool]) -> Command:
        command = sweep.start("--jobs", "2")
        command.wait(until)
        assert command.status is None, command.text
        return command

    command = started(lambda: len(sweep.logged()) == 2 and all(len(log) > 1 for log in sweep.logged().values()))
    command.send(signal.SIGTERM)
    assert command.wait() == 128 + signal.SIGTERM and command.last == STOPPED and "Traceback" not in command.text
    saved, logs = sweep.steps(), sweep.logged()
    assert len(saved) == 2 and all(len(logs[key]) == step // 10 for key, step in saved.items())
    command = started(lambda: len(list(sweep.runs.glob(".models/*/history.json"))) > 2)
    os.kill(workers(command)[0], signal.SIGKILL)
    assert command.wait() == 2 and "a worker process was killed" in command.last and "Traceback" not in command.text
    command = started(lambda: len(sweep.finished()) > 2)
    left = workers(command)
    command.send(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    end = time.monotonic() + 20
    while any(alive(pid) for pid in left):
        assert time.monotonic() < end, "the workers live on"
        time.sleep(0.05)
    sweep.goes_on(whole)


def test_a_slurm_job_that_is_told_to_end_goes_on_at_the_same_step(sweep: Sweep, whole: str) -> None:
    command = sweep.start()
    command.wait(until=lambda: any(len(log) > 3 for log in sweep.logged().values()))
    command.send(signal.SIGTERM)
    assert command.wait() == 128 + signal.SIGTERM, command.text
    assert command.last == STOPPED and "Traceback" not in command.text
    saved, logs = sweep.steps(), sweep.logged()
    (step,) = set(saved.values())
    assert step >= 40 and {len(log) for log in logs.values()} == {step // 10}
    sweep.goes_on(whole)
    for key, rows in logs.items():  # rows that were made again would have taken another time
        (record,) = read_json(sweep.runs / ".models" / key / "history.json")
        assert record["rows"][: len(rows)] == rows and record["rows"][-1]["step"] == STEPS


def test_a_slurm_job_that_is_told_to_end_while_it_evaluates(sweep: Sweep, whole: str) -> None:
    hang = sweep.script.with_name("hang")
    hang.touch()
    command = sweep.start(FAKE_HANG=str(hang))
    command.wait(until=lambda: any(sweep.runs.glob("*.partial/model")))
    command.send(signal.SIGTERM)
    assert command.wait() == 143 and command.last == STOPPED
    sweep.goes_on(whole)


def test_the_clock_is_of_no_importance(sweep: Sweep, whole: str) -> None:
    """Files from the future, as after a clock was set back, and from long ago."""
    command = sweep.start()
    command.wait(until=lambda: bool(sweep.steps()))
    command.send(signal.SIGKILL)
    command.wait()
    for number, path in enumerate(sorted(sweep.runs.rglob("*"))):
        os.utime(path, (4e9, 4e9) if number % 2 else (1.0, 1.0))
    sweep.goes_on(whole)
    for path in [*sweep.runs.rglob("*"), *sweep.results.rglob("*")]:
        os.utime(path, (4e9, 4e9))
    shutil.rmtree(sweep.results / "01_fake")
    sweep.goes_on(whole)
