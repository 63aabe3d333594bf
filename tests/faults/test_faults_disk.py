"""Full disks, damaged files and deleted folders: one line that names the mend, or none, and then the same table."""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fake_experiment import Coin
from faulty import RUNS, Command, Server, Sweep

from experiments.harness import Run, Stage, with_seeds
from experiments.harness.execution.execute import execute
from experiments.harness.execution.model_cache import checkpoint_dir, model_dir
from experiments.harness.executors.job_spec import JobSpec, StaticRuns
from experiments.harness.executors.worker import execute_in_turn
from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder
from lm.training.checkpoint import read_checkpoint, write_checkpoint
from synth import UserError

TRAIN = TrainConfig(steps=70, batch_size=2, seq_len=16)


@dataclass(frozen=True)
class Weight:
    """One number of the model."""

    def measure(self, model: Decoder, *_: Any) -> dict[str, float]:
        return {"weight": model.embed.weight[0, 0].item()}


RUN = Run("01_fake", Coin(), ModelConfig(1, 2, 8, 16), TRAIN, (Weight(),))
KINDS = {
    "one training": RUN,
    "a second training": replace(RUN, later_stages=(Stage(Coin(0.9), TRAIN),)),
}


def fails(command: Command) -> str:
    """Its one line of error."""
    assert command.wait() == 2 and command.last.startswith("error: "), command.text
    assert "Traceback" not in command.text
    return command.last


@pytest.fixture
def again(ended: Sweep, sweep: Sweep) -> Sweep:
    """A copy of a sweep that has ended."""
    for name in ("runs", "results"):
        shutil.copytree(ended.script.parents[1] / name, sweep.script.parents[1] / name)
    return sweep


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up(disk: Path, server: Server, whole: str) -> None:
    """While checkpoints are written, while models are kept, while rows are written, while tables are."""
    sweep, filler = Sweep(server, disk / "sweep"), disk / "filler"

    def fails_with(room: int) -> None:
        filler.unlink(missing_ok=True)
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - (room << 10)))
        line = fails(sweep.start())
        assert "free some space" in line and str(disk) in line

    for room in (0, 20):
        fails_with(room)
        assert not list(sweep.runs.glob(".models/*/history.json"))
    fails_with(60)
    assert 0 < len(list(sweep.runs.glob(".models/*/history.json"))) < RUNS
    fails_with(20)
    filler.unlink()
    sweep.goes_on(whole)
    shutil.rmtree(sweep.runs / min(sweep.finished()))
    shutil.rmtree(sweep.results)
    fails_with(8)
    assert len(sweep.finished()) == RUNS - 1
    fails_with(40)
    assert len(sweep.finished()) == RUNS and not (sweep.results / "README.md").exists()
    filler.unlink()
    sweep.goes_on(whole)


def test_a_disk_that_is_read_only(disk: Path, server: Server, whole: str) -> None:
    sweep = Sweep(server, disk / "sweep")
    command = sweep.start()
    command.wait(until=lambda: len(sweep.finished()) > 1)
    command.send(signal.SIGKILL)
    command.wait()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "Read-only file system" in fails(sweep.start())
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    sweep.goes_on(whole)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 4
    path.write_bytes(content)


def cut(path: Path, share: float = 0.5) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def emptied(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "tensors flipped": lambda step: flip(step / "tensors.safetensors", -5),
    "tensors cut": lambda step: cut(step / "tensors.safetensors"),
    "state flipped": lambda step: flip(step / "state.json", 300),
    "state cut": lambda step: cut(step / "state.json"),
    "emptied": emptied,
}


def stop_at_60(step: int) -> None:
    if step % 70 == 60:
        raise InterruptedError


def rows(run: Run, root: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in execute(run, root) or ()]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [*((damage, "one training") for damage in DAMAGE), ("state cut", "a second training")],
)
def test_a_damaged_checkpoint_is_put_aside(
    damage: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, root = KINDS[kind], tmp_path / "runs"
    folder = model_dir(run, root, len(run.stages))
    if run.later_stages:
        execute(replace(run, later_stages=()), root)
    with pytest.raises(InterruptedError):
        execute(run, root, on_step=lambda step: stop_at_60(step) if step > 70 or not run.later_stages else None)
    DAMAGE[damage](checkpoint_dir(folder) / "step-50")
    capsys.readouterr()
    found = rows(run, root)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"holds a damaged checkpoint; it is kept as {folder.name}.damaged and its training begins again"
    )
    assert (folder.with_suffix(".damaged") / "checkpoint" / "step-50").is_dir()
    assert found == rows(run, tmp_path / "undisturbed")


def test_the_other_trainings_of_a_sweep_go_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    runs = with_seeds([RUN], 3)
    for run in runs:
        with pytest.raises(InterruptedError):
            execute(run, tmp_path, on_step=stop_at_60)
    DAMAGE["state cut"](checkpoint_dir(model_dir(runs[1], tmp_path, 1)) / "step-50")
    told: dict[int, list[int]] = {0: [], 1: [], 2: []}
    spec = JobSpec(StaticRuns(tuple(runs)), "smoke", None, tmp_path)
    assert list(execute_in_turn(spec, runs, lambda run: told[run.seeds.init].append)) == runs
    assert [told[seed][0] for seed in range(3)] == [60, 10, 60]
    assert [rows(run, tmp_path) for run in runs] == [rows(run, tmp_path / "undisturbed") for run in runs]


def test_a_checkpoint_of_something_else_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        execute(RUN, tmp_path, on_step=stop_at_60)
    home = checkpoint_dir(model_dir(RUN, tmp_path, 1))
    tensors, state = read_checkpoint(home / "step-50")
    state["identity"]["task"] = "another"
    write_checkpoint(home, 50, tensors, state)
    for _ in range(2):
        with pytest.raises(UserError, match="belongs to a run with another task; use another folder or delete it"):
            execute(RUN, tmp_path)


def test_a_kept_model_with_any_byte_flipped_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    wanted, places = rows(RUN, tmp_path), random.Random(4)
    folder = model_dir(RUN, tmp_path, 1)
    names = ("history.json", "model/model.safetensors", "model/config.json", "model/reference.json")
    for number, name in enumerate(names * 3):
        path = folder / name
        whole = path.read_bytes()
        path.unlink()  # the finished run has another name for the same file
        path.write_bytes(whole)
        flip(path, places.randrange(1 << 30))
        again = replace(RUN, tags={"attempt": number})
        found = [{**row, "run": wanted[0]["run"]} for row in rows(again, tmp_path)]
        assert found == [{**row, "attempt": number} for row in wanted], (name, capsys.readouterr().err)


def test_a_damaged_table_names_the_mend(again: Sweep, whole: str) -> None:
    table = again.results / "01_fake/laptop/table.csv"
    checksum = table.with_suffix(".sha256")
    for damage in (lambda: cut(table), checksum.unlink):
        damage()
        assert "or run the experiment again" in fails(again.start("--plot-only"))
        again.goes_on(whole)


def test_rows_that_are_not_whole_are_made_again(again: Sweep, whole: str) -> None:
    before = again.finished()
    cut_short, gone, *_ = sorted(before)
    cut(again.runs / cut_short / "rows.json")
    shutil.rmtree(again.runs / gone)
    command = again.start()
    assert command.wait() == 0 and f"{cut_short} is not whole; it is kept as {cut_short}.damaged" in command.text
    assert again.table() == whole
    assert {key for key, value in again.finished().items() if value != before[key]} == {cut_short, gone}


def test_folders_deleted_under_a_sweep(sweep: Sweep, whole: str) -> None:
    for name, begun in (("runs/.models", sweep.logged), ("runs", sweep.logged), ("results", sweep.finished)):
        command = sweep.start()
        command.wait(until=lambda begun=begun: bool(begun()))
        shutil.rmtree(sweep.runs.parent / name, ignore_errors=True)
        if command.wait():
            fails(command)
    sweep.goes_on(whole)


def test_runs_may_be_a_link(again: Sweep, whole: str) -> None:
    elsewhere = again.runs.rename(again.runs.with_name("elsewhere"))
    again.runs.symlink_to(again.runs.with_name("nowhere"))
    assert "runs: File exists; mend this or give --runs-dir a folder" in fails(again.start())
    again.runs.unlink()
    again.runs.symlink_to(elsewhere)
    shutil.rmtree(elsewhere / min(again.finished()))
    again.goes_on(whole)
    assert len(again.finished()) == RUNS and again.runs.is_symlink()
