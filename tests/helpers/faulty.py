"""Commands that tests may kill: a server that has imported everything forks one in milliseconds instead of seconds."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# what a command would import, but for its experiment; nothing may be computed before a fork
NEEDED = ("experiments.harness.reporting.live", "lm.pretrained", "lm.hf.modeling", "lm.training.loop",
          "fake_experiment", "matplotlib.pyplot", "matplotlib.backends.backend_agg",
          "matplotlib.backends.backend_svg", "seaborn", "tqdm")  # fmt: skip

STEPS, RUNS = 110, 6  # of every training, and of the sweep
STOPPED = "stopped; run the same command to go on"


class Command:
    """A started command line of an experiment; `output` is the file that it writes both of its streams to."""

    def __init__(self, server: "Server", pid: int, output: Path) -> None:
        self.server, self.pid, self.output, self.status = server, pid, output, None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.status is None:
            self.status = self.server.ask(poll=self.pid)
        return self.status

    def wait(self, until: Callable[[], bool] = lambda: False, seconds: float = 60) -> int | None:
        """Wait for its end, or until something is so."""
        end = time.monotonic() + seconds
        while self.poll() is None and not until():
            assert time.monotonic() < end, f"still running:\n{self.text}"
            time.sleep(0.005)
        return self.status

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    @property
    def text(self) -> str:
        return self.output.read_text()

    @property
    def last(self) -> str:
        return self.text.splitlines()[-1]


class Server:
    """Forks commands, whose output goes to files in a folder. Close it at the end; what still runs then is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests/helpers"), os.environ.get("PYTHONPATH", "")])
        variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process: Any = subprocess.Popen([sys.executable, __file__], env=variables, **pipes)
        self.started: list[Command] = []

    def ask(self, **question: Any) -> Any:
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, script: Path, argv: Sequence[str], environment: Mapping[str, str]) -> Command:
        """Start `python SCRIPT ARGV`."""
        output = self.folder / f"{len(self.started)}.txt"
        pid = self.ask(script=str(script), argv=argv, output=str(output), environment=environment)
        self.started.append(Command(self, pid, output))
        return self.started[-1]

    def close(self) -> None:
        for command in self.started:
            if command.status is None:
                with suppress(ProcessLookupError):
                    command.send(signal.SIGKILL)
        self.process.communicate()


class Sweep:
    """The fake experiment at laptop scale in a folder of its own, and what it leaves there.

    Evaluations take 0.05 s, so that they too are hit.
    """

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.script = server, folder / "experiments" / "01_fake.py"
        self.runs, self.results = folder / "runs", folder / "results"
        self.script.parent.mkdir(parents=True)
        fake = Path(__file__).with_name("fake_experiment.py").read_text()
        self.script.write_text(fake.replace("        return [{", "        time.sleep(0.05)\n        return [{"))

    def start(self, *arguments: str, **environment: str) -> Command:
        """Start it with one process, unless the arguments say otherwise."""
        arguments = ("--scale", "laptop", "--jobs", "1", *arguments)
        return self.server.start(self.script, arguments, {"FAKE_STEPS": str(STEPS), **environment})

    def goes_on(self, whole: str) -> None:
        """The same command ends well, with the table `whole`, and does no finished run again."""
        before, command = self.finished(), self.start()
        assert command.wait() == 0, command.text
        assert self.table() == whole
        after = self.finished()
        assert len(after) == RUNS and before.items() <= after.items()
        assert not list(self.runs.glob("*.partial")) and not list(self.runs.glob(".models/*.partial"))

    def table(self) -> str:
        """The bytes of the final table but for its last column, the time it took, and those of the ledger."""
        header, *rows = (self.results / "01_fake/laptop/table.csv").read_text().splitlines()
        assert header.endswith(",seconds")
        return "\n".join(row.rpartition(",")[0] for row in rows) + (self.results / "README.md").read_text()

    def finished(self) -> dict[str, Any]:
        """What shows that a finished run is done again: the folder's inode and time, and the bytes of its rows."""
        found = [path for path in self.runs.glob("*/rows.json") if not path.parent.suffix]
        stats = [os.stat(path.parent) for path in found]
        return {
            path.parent.name: (stat.st_ino, stat.st_mtime_ns, path.read_bytes())
            for path, stat in zip(found, stats, strict=True)
        }

    def steps(self) -> dict[str, int]:
        """Of every model in training, the step of its checkpoint."""
        found = self.runs.glob(".models/*.partial/checkpoint/step-*")
        return {path.parents[1].stem: int(path.name.removeprefix("step-")) for path in found}

    def logged(self) -> dict[str, list[dict[str, float]]]:
        """Of every model in training, the rows of its log that are whole."""
        logs = {path.parents[1].stem: path for path in self.runs.glob(".models/*.partial/checkpoint/metrics.jsonl")}
        return {key: rows for key, path in logs.items() if (rows := _rows(path)) is not None}


def _rows(path: Path) -> list[dict[str, float]] | None:
    with suppress(FileNotFoundError):  # the training has just ended
        return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return None


def _serve() -> None:
    for name in NEEDED:
        importlib.import_module(name)
    from experiments.harness.provenance import device_name, git_commit

    device_name(), git_commit()  # they do not change from command to command
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(_ended(question["poll"]) if "poll" in question else _fork(**question)), flush=True)


def _ended(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(script: str, argv: list[str], output: str, environment: dict[str, str]) -> int:
    """The child's number. The child itself never returns, and ends as a command ends."""
    if pid := os.fork():
        return pid
    streams = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), os.open(os.devnull, os.O_RDONLY)
    for number, stream in ((0, streams[1]), (1, streams[0]), (2, streams[0])):
        os.dup2(stream, number)
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from experiments.harness.cli import main

    main(script, argv)
    raise SystemExit(0)


if __name__ == "__main__":
    _serve()
