"""The command line of lm: train, go on, sample, and bad input."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lm.__main__
from lm.config import ModelConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[2]
TINY = TrainConfig(steps=3, batch=2, window=32)


def train(task: str, folder: Path) -> None:
    lm.__main__.Train(task, folder, ModelConfig(1, 1, 8), TINY).run()


def status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["lm", *args])
    found = lm.__main__.main()
    return found, capsys.readouterr().err


def test_train_and_sample(
    reverse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.__main__, "SECONDS", 0)
    folder = tmp_path / "run"
    train(reverse, folder)
    out, err = capsys.readouterr()
    assert f"the model is in {folder}/model" in out and "import lm.hf.modeling" in out and "step 3 of 3, loss" in err
    lm.__main__.Sample(folder, 5, 6).run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(" = |" in line and "<" not in line for line in lines)


def test_bad_input_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for args, word in [
        (["train", "cfg3f"], "--folder"),
        (["train", "cfg3f", "--folder", "x", "--train.steps", "0"], "steps=0 is too small"),
        (["train", "cfg3f", "--folder", "x", "--train.lr", "nan"], "lr=nan"),
        (["train", "brackets", "--folder", "x", "--train.window", "2000000000", "--train.batch", "999"], "lower batch"),
        (["train", "cfg3f", "--folder", str(tmp_path / "file")], "cannot write to"),
        (["sample", "--folder", str(tmp_path), "--n", "-1"], "--n -1"),
        (["sample", "--folder", str(tmp_path)], "no model at"),
        (["sample", "--folder", "x", "--trust", "gone.py", "--trust", str(tmp_path / "file")], "no file gone.py"),
    ]:
        code, err = status(capsys, monkeypatch, *args)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and word in err, (args, err)


def test_a_training_in_this_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Exception):
        pass

    def tell(track: str, folder: Path, run: str, settings: object) -> None:
        raise Told(run)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lm.training.trackers.tracking", tell)
    with pytest.raises(Told, match=f"^{tmp_path.name}$"):
        train("brackets", Path("."))


def test_two_processes_do_not_share_a_folder(
    reverse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    code, err = status(capsys, monkeypatch, "train", reverse, "--folder", str(tmp_path))
    os.close(handle)
    assert code == 2 and "another process is training" in err and err.count("\n") == 2  # with whose code runs


def test_a_full_disk_at_a_row(tmp_path: Path, reverse: str) -> None:
    (tmp_path / "run").mkdir()
    code = (
        "import builtins, sys, lm.training.train_state\n"
        "def full(path, mode='r', *rest):\n"
        "    if mode == 'a': raise OSError(28, 'No space left on device')\n"
        "    return builtins.open(path, mode, *rest)\n"
        "lm.training.train_state.open = full\n"
        "import lm.__main__\n"
        "sys.exit(lm.__main__.main())"
    )
    options = ["--folder", str(tmp_path / "run"), "--train.steps", "1", "--model.width", "8"]
    command = [sys.executable, "-c", code, "train", reverse, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "free some space" in done.stderr and done.stderr.count("\n") == 2
