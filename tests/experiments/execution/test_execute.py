"""A run is done once, survives a kill at any moment, and is never read half."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import fake_experiment
import pytest
from fake_experiment import Coin, Score

from experiments.harness import Run, Stage, atomic_io, run_id, with_seeds
from experiments.harness.execution import execute as module
from experiments.harness.execution.execute import execute, has_result, has_valid_result, read_rows
from experiments.harness.reporting.table import to_table
from experiments.harness.run import Seeds
from lm.config import ModelConfig, TrainConfig
from synth import UserError

ROOT = Path(__file__).resolve().parents[3]
RUN = Run(
    "01_fake",
    Coin(),
    ModelConfig(n_layers=1, n_heads=2, d_model=8, max_seq_len=16),
    TrainConfig(steps=20, batch_size=2, seq_len=16),
    (Score(),),
    seeds=Seeds(0, 1, 2),
    tags={"coin": "fair"},
)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The file that every evaluation adds a line to."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("FAKE_LOG", str(path))
    return path


@pytest.fixture
def script(tmp_path):
    """The fake experiment as a reader would have it."""
    path = tmp_path / "experiments" / "01_fake.py"
    path.parent.mkdir()
    shutil.copy(Path(fake_experiment.__file__), path)
    return path


@pytest.fixture
def start(script):
    """Starts the script in a process of its own; what still runs at the end of the test is killed."""
    with ExitStack() as stack:

        def begin(*arguments, **environment):
            path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
            variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = subprocess.Popen([sys.executable, script, *arguments], env=variables, **streams)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


@pytest.fixture
def heeds_ctrl_c():
    """The jobs that a shell starts in the background ignore Ctrl-C, and so would the processes that tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def succeeds(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def lines(path):
    return path.read_text().splitlines()


def rows_without_cost(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_run_is_done_once_and_says_what_it_was(tmp_path, log):
    told = []
    rows = execute(RUN, tmp_path / "runs", on_step=told.append)
    assert execute(RUN, tmp_path / "runs") == rows
    assert len(lines(log)) == 1 and told[-1] == 20
    assert [(row["part"], row["score"], row["draws"]) for row in rows] == [(0, 51.0, 10), (1, 52.0, 10)]
    first = rows[0]
    assert (first["run"], first["coin"], first["seed_init"], first["steps"]) == (run_id(RUN), "fair", 1, 20)
    assert first["parameters"] > 0 and first["tokens"] == 20 * 2 * 16 and first["train_loss"] > 0
    folder = tmp_path / "runs" / run_id(RUN)
    record = atomic_io.read_json(folder / "run.json")
    assert record["run"]["train"]["lr"] == RUN.train.lr and record["versions"]["torch"] and record["threads"]
    assert len(atomic_io.read_json(folder / "history.json")) == 2
    assert (folder / "model").is_dir() and not (folder / "checkpoint").exists()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".locks", ".models", run_id(RUN)]


def test_a_model_without_training_and_a_task_without_model_are_measured(tmp_path, log):
    untrained = Run("01_fake", Coin(), RUN.model, None, (Score(),))
    assert execute(untrained, tmp_path)[0]["steps"] == 0
    alone = execute(Run("01_fake", Coin(), None, None, (Score(),)), tmp_path)[0]
    assert alone["parameters"] is None and alone["score"] == 50.0
    assert execute(Run("01_fake", Coin(), None, None), tmp_path)[0]["tokens"] == 0


def test_an_evaluation_cannot_hide_a_column_of_the_harness(tmp_path):
    class Bad(Score):
        def measure(self, *_):
            return {"seconds": 1}

    with pytest.raises(ValueError, match="Bad measures .*seconds"):
        execute(Run("01_fake", Coin(), None, None, (Bad(),)), tmp_path)


def test_a_result_file_that_is_not_whole_is_never_read(tmp_path, log):
    execute(RUN, tmp_path)
    path = tmp_path / run_id(RUN) / "rows.json"
    whole = path.read_bytes()
    damaged = [whole[:cut] for cut in range(0, len(whole) - 1, 37)] + [whole.replace(b"51.0", b"59.0"), b"\xff" + whole]
    for content in damaged:
        path.write_bytes(content)
        assert has_result(RUN, tmp_path) and not has_valid_result(RUN, tmp_path)
        with pytest.raises(UserError, match=f"{path}.* delete the folder {path.parent}"):
            read_rows(RUN, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="is missing; delete the folder"):
        read_rows(RUN, tmp_path)


def test_a_result_that_is_not_whole_is_put_aside_and_made_again(tmp_path, log, capsys):
    rows = execute(RUN, tmp_path)
    for name in ("first", "second"):
        (tmp_path / run_id(RUN) / "rows.json").write_text(name)
        assert rows_without_cost(execute(RUN, tmp_path)) == rows_without_cost(rows)
        assert f"{run_id(RUN)} is not whole; it is kept as {run_id(RUN)}.damaged" in capsys.readouterr().err
        assert (tmp_path / f"{run_id(RUN)}.damaged" / "rows.json").read_text() == name
    assert len(lines(log)) == 3


class Killed(BaseException):
    """Ends a run like a kill: nothing may catch it."""


@pytest.mark.parametrize("name", ["write_json", "publish_folder"])
@pytest.mark.parametrize("call", [0, 1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_results_are_written_loses_nothing(tmp_path, log, monkeypatch, name, call, after):
    real, calls = getattr(module, name), []

    def dies(*arguments):
        calls.append(arguments)
        if after:
            real(*arguments)
        if len(calls) > call:
            raise Killed
        if not after:
            real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies)
        try:
            execute(RUN, tmp_path)
        except Killed:
            assert (after and name == "publish_folder") == has_result(RUN, tmp_path)
    rows = execute(RUN, tmp_path)
    assert [row["score"] for row in rows] == [51.0, 52.0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "log") == [".locks", ".models", run_id(RUN)]


def test_a_full_disk_keeps_what_is_there(tmp_path, log, monkeypatch):
    other = with_seeds([RUN], 1)[0]
    execute(other, tmp_path)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises((OSError, UserError), match="[Ss]pace"):
            execute(RUN, tmp_path)
    assert not has_result(RUN, tmp_path) and execute(other, tmp_path)[0]["score"] == 50.0
    assert execute(RUN, tmp_path)[0]["score"] == 51.0


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    atomic_io.write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    monkeypatch.setattr(atomic_io.Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="full") as error:
        atomic_io.write_text(tmp_path / "a", "new")
    assert error.value.filename == str(tmp_path / "a")
    monkeypatch.undo()
    next(tmp_path.glob(".a.*")).unlink()
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path, start):
    runs = tmp_path / "runs"
    arguments = ("--scale", "smoke", "--jobs", "1")
    process = start(*arguments, FAKE_STEPS="400")
    wait_for(lambda: list(runs.glob(".models/*.partial/checkpoint/step-*")), process)
    process.kill()
    process.communicate()
    kept = {}  # by the model's key
    for partial in runs.glob(".models/*.partial"):
        saved = max(int(path.name.removeprefix("step-")) for path in partial.glob("checkpoint/step-*"))
        rows = lines(partial / "checkpoint" / "metrics.jsonl")[: saved // 10]
        kept[partial.stem] = [json.loads(line)["seconds"] for line in rows]
        assert 50 <= saved < 400
    assert len(kept) == 1 and not list(runs.glob("*/rows.json"))
    succeeds(start(*arguments, FAKE_STEPS="400"))
    for key, seconds in kept.items():
        (record,) = atomic_io.read_json(runs / ".models" / key / "history.json")
        history = record["rows"]
        assert [row["seconds"] for row in history][: len(seconds)] == seconds and history[-1]["step"] == 400


def test_two_commands_at_once_do_every_run_once(tmp_path, start, log):
    hang = tmp_path / "hang"
    hang.touch()
    processes = [start("--scale", "smoke", "--jobs", "1", FAKE_HANG=str(hang)) for _ in range(2)]
    for process in processes:
        wait_for(lambda: len(list((tmp_path / "runs").glob("*.partial"))) == 2, process)  # each has taken another run
    hang.unlink()
    for process in processes:
        succeeds(process)
    assert sorted(lines(log)) == ["0.5 0", "0.9 0"]


def test_a_command_takes_over_when_the_one_it_waits_for_is_killed(tmp_path, start, log):
    hang = tmp_path / "hang"
    hang.touch()
    first = start("--scale", "smoke", "--jobs", "2", FAKE_HANG=str(hang))
    wait_for(lambda: len(list((tmp_path / "runs").glob("*.partial/model"))) == 2, first)
    second = start("--scale", "smoke", "--jobs", "1")
    time.sleep(0.5)
    first.kill()  # its two workers end with it
    succeeds(second)
    assert len(lines(log)) == 2


def test_ctrl_c_says_how_to_go_on(tmp_path, heeds_ctrl_c, start):
    hang = tmp_path / "hang"
    hang.touch()
    process = start("--scale", "smoke", "--jobs", "2", FAKE_HANG=str(hang))
    wait_for(lambda: len(list((tmp_path / "runs").glob("*.partial/model"))) == 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.rstrip().endswith("stopped; run the same command to go on") and "Traceback" not in errors


def test_a_training_that_diverges_is_recorded_and_the_sweep_goes_on(tmp_path, log):
    wild = replace(RUN, train=replace(RUN.train, steps=60, lr=1e9), tags={"coin": "wild"})
    then = replace(wild, later_stages=(Stage(Coin(), RUN.train),))
    for run in (wild, then):
        rows = execute(run, tmp_path)
        assert execute(run, tmp_path) == rows and not lines(log)
        (row,) = rows  # one for the evaluation, which was not asked
        assert row["diverged"] and 0 < row["diverged_at"] <= 20 and row["evaluation"] == "Score"
        assert "score" not in row and row["train_loss"] is None and row["parameters"] > 0
    assert not (tmp_path / run_id(wild) / "model").exists()
    table = to_table([execute(RUN, tmp_path), rows], "laptop")
    assert list(table["diverged"]) == [False, False, True] and list(table["score"].isna()) == [False, False, True]
    assert table["diverged"].dtype == bool
    assert "diverged" not in to_table([execute(RUN, tmp_path)], "laptop")


def test_an_evaluation_may_read_the_log_of_the_training(tmp_path, log):
    @dataclass(frozen=True)
    class Logged(Score):
        def measure_history(self, history):
            return {"logged": len(history)}

    assert [row["logged"] for row in execute(replace(RUN, evaluations=(Logged(),)), tmp_path)] == [2, 2]
