"""Every command line: one spelling of a thing, an explanation of every option, and a help page within a second."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import benchmarks.__main__
import experiments.harness.cli
import lm.__main__
import probing.__main__
import synth.__main__

ROOT = Path(__file__).resolve().parents[2]
OLD = {
    "folder": "output-dir", "runs": "runs-dir", "results": "results-dir", "into": "output", "out": "output",
    "to": "format", "in": "input", "n": "num-samples", "samples": "num-printed", "tokens": "max-new-tokens",
    "documents": "num-examples", "batch": "batch-size", "by": "metric", "trust": "trust-code", "track": "tracker",
    "measure": "time-steps", "vary": "grid", "fixed": "set", "updates": "probe-steps", "vocabulary": "vocab-size",
}  # fmt: skip


def run_experiment(argv: list[str]) -> None:
    experiments.harness.cli.main(str(ROOT / "experiments/01_cfg_generation.py"), argv)


def run_probing(argv: list[str]) -> None:
    print(probing.__main__.run(argv))


ROOMS: dict[str, tuple[Callable[[list[str]], object], dict[str, type]]] = {
    "synth": (synth.__main__.main, synth.__main__.COMMANDS),
    "lm": (lm.__main__._run, lm.__main__.COMMANDS),
    "probing": (run_probing, probing.__main__.COMMANDS),
    "experiments": (experiments.harness.cli.main_all, experiments.harness.cli.COMMANDS),
}
TASKS = {("synth", "show"), ("synth", "export"), ("synth", "score"), ("lm", "train")}


def page(call: Callable[[list[str]], object], *argv: str) -> str:
    """The help page, each line without its frame."""
    out = io.StringIO()
    with redirect_stdout(out):
        try:
            call([*argv, "--help"])
        except SystemExit as leaving:
            assert not leaving.code
    return "\n".join(re.sub("^[│ ] ", "", line).rstrip("│ ") for line in out.getvalue().splitlines())


def pages() -> Iterator[tuple[str, Callable[[list[str]], object], list[str]]]:
    yield "benchmarks", benchmarks.__main__.main, []
    yield "one experiment", run_experiment, []
    for room, (call, commands) in ROOMS.items():
        for command in commands:
            yield f"{room} {command}", call, [command]
            if (room, command) in TASKS:
                yield f"{room} {command} mano", call, [command, "mano"]


@pytest.mark.parametrize(("name", "call", "argv"), [pytest.param(*each, id=each[0]) for each in pages()])
def test_every_option_is_explained_and_spelled_as_elsewhere(
    name: str, call: Callable[[list[str]], object], argv: list[str]
) -> None:
    entries = re.split(r"\n(?=--[a-z])", page(call, *argv))[1:]
    assert entries or name in ("synth list",)
    for entry in entries:
        head, _, text = re.sub(r"\n +", "  ", re.split(r"\n[╰╭]", entry)[0], count=1).partition("  ")
        for flag in re.findall(r"--([\w.-]+)", head):
            assert flag not in OLD, f"{name}: --{flag} is --{OLD[flag]} elsewhere"
        assert re.search(r"[a-z]{3}", re.sub(r"\((default: .*?|required|repeatable)\)", "", text)), (name, head)


@pytest.mark.parametrize("room", [*ROOMS, "benchmarks"])
def test_commands_are_explained_and_a_misspelt_flag_has_a_neighbour(
    room: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = {"synth": ["list"], "lm": ["sample"], "probing": ["plan"], "experiments": ["list"]}.get(room, [])
    done = subprocess.run(
        [sys.executable, "-m", room, *command, "--hepl"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2 and "did you mean --help?" in done.stderr and done.stderr.count("\n") == 1
    for name, kind in ROOMS[room][1].items() if room in ROOMS else ():
        text = page(ROOMS[room][0])
        assert name in text and (kind.__doc__ or "").splitlines()[0] in text


FAST = [["-m", "synth", "--help"], ["-m", "lm", "--help"], ["-m", "probing", "--help"], ["-m", "experiments", "list"],
        ["-m", "lm", "train", "mano", "--help"], ["experiments/01_cfg_generation.py", "--help"]]  # fmt: skip


@pytest.mark.parametrize("command", FAST, ids=" ".join)
def test_help_takes_less_than_a_second_and_loads_nothing_heavy(command: list[str]) -> None:
    seconds = []
    for _ in range(3):
        start = os.times()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, cwd=ROOT, check=True
        )
        end = os.times()  # processor time: a loaded machine says nothing about the command
        seconds.append(end.children_user + end.children_system - start.children_user - start.children_system)
    assert not re.search(r"\| +(torch|matplotlib|transformers|pandas)$", done.stderr, re.M)
    assert min(seconds) < 1
