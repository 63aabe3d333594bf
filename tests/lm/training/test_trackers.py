"""Trackers show what the files say, offline, and never stop a training."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fake_experiment
import pytest

import lm.__main__
from experiments.harness import cli
from experiments.harness.atomic_io import read_json
from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.training import trackers as module
from lm.training.history import Diverged
from lm.training.loop import train
from lm.training.trackers import TRACKERS, check_tracker, open_tracker
from synth import UserError
from synth.registry import get_task

pytestmark = pytest.mark.filterwarnings("default")  # the trackers' own, of packages that are not ours
TINY = TrainConfig(steps=25, batch_size=2, seq_len=16)
NUMBERS = ("loss", "lr", "tokens", "documents", "seconds")


def needs(name: str) -> Any:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")


def small(seed: int = 0) -> Any:
    return build(ModelConfig(1, 1, 8), get_task("copy").vocab().size, seed)


def trained(name: str, home: Path, config: TrainConfig = TINY, **settings: Any) -> list[dict[str, float]]:
    """The rows of metrics.jsonl of a training that was tracked."""
    with open_tracker(name, home / "tracking", "a run/with, signs", {"lr": config.lr}) as follow:
        train(small(), get_task("copy"), config, 0, folder=home, log_every=5, on_log=follow, **settings)
    return rows_of(home)


def rows_of(home: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would draw: name -> (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def matches(drawn: dict[str, list[tuple[int, float]]], rows: list[dict[str, float]]) -> None:
    assert drawn.keys() == set(NUMBERS) and [row["step"] for row in rows] == [5, 10, 15, 20, 25]
    for name in NUMBERS:
        expected = [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows]  # events hold fp32
        assert drawn[name] == expected, name


@needs("tensorboard")
def test_tensorboard_draws_the_numbers_of_the_files(tmp_path: Path) -> None:
    rows = trained("tensorboard", tmp_path)
    matches(shown(tmp_path / "tracking" / "a-run-with-signs"), rows)


@needs("tensorboard")
def test_long_names_keep_the_key_at_their_end(tmp_path: Path) -> None:
    for key in ("k1", "k2"):
        with open_tracker("tensorboard", tmp_path, f"{'label ' * 60}{key}") as follow:
            assert follow is not None
            follow({"step": 1, "loss": 1.0})
    assert sorted(path.name[-3:] for path in tmp_path.iterdir()) == ["-k1", "-k2"]


@needs("tensorboard")
def test_a_training_that_goes_on_is_one_curve(tmp_path: Path) -> None:
    """Killed at step 20 with a checkpoint of step 10: no step is drawn twice."""

    class Stopped(Exception):
        pass

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 20:
            raise Stopped

    with pytest.raises(Stopped):
        trained("tensorboard", tmp_path, checkpoint_every=10, on_step=stop)
    assert [step for step, _ in shown(tmp_path / "tracking" / "a-run-with-signs")["loss"]] == [5, 10, 15, 20]
    rows = trained("tensorboard", tmp_path, checkpoint_every=10)
    matches(shown(tmp_path / "tracking" / "a-run-with-signs"), rows)


@needs("tensorboard")
def test_a_training_that_diverges_is_closed(tmp_path: Path) -> None:
    config = TrainConfig(steps=200, batch_size=2, seq_len=16, lr=1e30, max_grad_norm=0.0)
    with pytest.raises(Diverged):
        trained("tensorboard", tmp_path, config)
    drawn = shown(tmp_path / "tracking" / "a-run-with-signs").get("loss", [])
    assert [step for step, _ in drawn] == [row["step"] for row in rows_of(tmp_path)]


NO_NETWORK = """
import socket
def refuse(self, address, *rest):
    assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), f"a call to {address}"
    return connect(self, address, *rest)
connect, socket.socket.connect = socket.socket.connect, refuse
"""


def in_a_process(name: str, folder: Path) -> subprocess.CompletedProcess:
    """`python -m lm train` with a tracker, where every socket but this machine's own fails."""
    command = f"{NO_NETWORK}\nimport sys, runpy; sys.argv = sys.argv[1:]; runpy.run_module('lm', run_name='__main__')"
    settings = ["--train.steps", "25", "--train.batch-size", "2", "--train.seq-len", "16", "--model.n-layers", "1"]
    settings += ["--model.d-model", "8", "--model.n-heads", "1", "--tracker", name]
    away = {"TRACKIO_SPACE_ID": "someone/else", "WANDB_MODE": "online", "WANDB_API_KEY": "x" * 40}
    environment = {**os.environ, **away, "HOME": str(folder.parent / "home"), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", command, "lm", "train", "copy", "--output-dir", str(folder), *settings]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)


@needs("wandb")
def test_wandb_writes_an_offline_run_and_calls_nobody(tmp_path: Path) -> None:
    done = in_a_process("wandb", tmp_path / "run")
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert done.stdout.startswith("loss "), "a tracker's greetings are not ours"
    (record,) = (tmp_path / "run" / "tracking" / "wandb").glob("wandb/offline-run-*/run-*.wandb")
    content = record.read_bytes()
    assert b"loss" in content and str(rows_of(tmp_path / "run")[-1]["tokens"]).encode() in content


@needs("trackio")
def test_trackio_keeps_its_rows_here(tmp_path: Path) -> None:
    done = in_a_process("trackio", tmp_path / "run")
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert "Trackio" not in done.stdout, "a tracker's greetings are not ours"
    (base,) = (tmp_path / "run" / "tracking" / "trackio").glob("*.db")
    with sqlite3.connect(base) as connection:
        kept = [json.loads(text) for (text,) in connection.execute("select metrics from metrics order by step")]
    rows = rows_of(tmp_path / "run")
    assert [{name: one[name] for name in NUMBERS} for one in kept] == [{n: row[n] for n in NUMBERS} for row in rows]


class Breaking:
    """A tracker that fails where it is told to."""

    def __init__(self, where: str) -> None:
        self.where, self.calls = where, []  # type: ignore[var-annotated]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.where:
            raise OSError(28, "No space left on device")

    def start(self) -> None:
        self._call("start")

    def log(self, values: Any, step: int) -> None:
        self._call("log")

    def finish(self) -> None:
        self._call("finish")


@pytest.fixture(params=["start", "log", "finish"])
def breaking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaking]:
    tracker = Breaking(request.param)
    monkeypatch.setitem(module.OPENERS, "tensorboard", lambda *_: tracker)
    monkeypatch.setattr(module, "check_tracker", lambda name: None)
    yield tracker


def test_a_tracker_that_fails_does_not_stop_training(
    breaking: Breaking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(trained("tensorboard", tmp_path)) == 5
    err = capsys.readouterr().err
    assert err.count("warning: tensorboard shows no more of this training ([Errno 28] No space left") == 1
    assert breaking.calls.count("log") == {"start": 0, "log": 1, "finish": 5}[breaking.where]
    assert breaking.calls[-1] == "finish"


def test_a_folder_that_cannot_be_made_does_not_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    (tmp_path / "tracking").write_text("")
    assert len(trained("tensorboard", tmp_path)) == 5 and "shows no more of this training" in capsys.readouterr().err


def test_an_unknown_tracker_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["lm", "train", "copy", "--output-dir", str(tmp_path / "run"), "--tracker", "tensorbord"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert lm.__main__.main() == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "did you mean tensorboard?" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_one_line_that_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError) as raised:
        check_tracker(name)
    package = {"tensorboard": "'physics-of-lms[track]'"}.get(name, name)
    assert str(raised.value).endswith(f"; pip install {package}") and name in str(raised.value)


def test_only_the_first_rank_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_main_process", lambda: False)
    monkeypatch.setattr(module, "check_tracker", lambda name: None)
    with open_tracker("tensorboard", tmp_path / "none", "x") as follow:
        assert follow is None
    with open_tracker("", tmp_path / "none", "x") as follow:
        assert follow is None and not (tmp_path / "none").exists()


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_SPACE_ID", "someone/else")
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    with module._environment(module._variables("trackio", Path("/somewhere"))):
        assert os.environ["TRACKIO_DIR"] == "/somewhere" and "TRACKIO_SPACE_ID" not in os.environ
    assert os.environ["TRACKIO_SPACE_ID"] == "someone/else" and "TRACKIO_DIR" not in os.environ


@needs("tensorboard")
def test_an_experiment_s_trainings_are_shown_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model's history is what TensorBoard holds under its experiment, label and key."""
    script = tmp_path / "experiments" / "01_fake.py"
    script.parent.mkdir()
    shutil.copy(fake_experiment.__file__, script)
    monkeypatch.delitem(sys.modules, "experiments.01_fake", raising=False)
    cli.main(str(script), ["--scale", "smoke", "--jobs", "1", "--tracker", "tensorboard"])
    kept = {path.parent.name: path for path in (tmp_path / "runs" / ".models").glob("*/history.json")}
    drawn = {path.name: shown(path) for path in (tmp_path / "runs" / ".tracking" / "tensorboard").iterdir()}
    assert len(drawn) == len(kept) and all(name.startswith("01_fake-") for name in drawn)
    for name, values in drawn.items():
        (record,) = read_json(kept[name.rpartition("-")[2]])
        assert values["loss"] == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in record["rows"]]


def test_an_experiment_refuses_an_unknown_tracker_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "experiments" / "01_fake.py"
    script.parent.mkdir()
    shutil.copy(fake_experiment.__file__, script)
    monkeypatch.delitem(sys.modules, "experiments.01_fake", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main(str(script), ["--scale", "smoke", "--tracker", "wandbb"])
    assert end.value.code == 2 and "did you mean wandb?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists() and not (tmp_path / "results").exists()
