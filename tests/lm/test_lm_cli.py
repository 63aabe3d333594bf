"""The command line of lm: train, go on, sample, and bad input."""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lm.__main__
from lm.config import ModelConfig, TrainConfig
from synth import Corpus, get_task

ROOT = Path(__file__).resolve().parents[2]
TINY = TrainConfig(steps=3, batch_size=2, seq_len=32)


def train(task: str, folder: Path) -> None:
    lm.__main__.Train(folder, model=ModelConfig(1, 1, 8), train=TINY).run(get_task(task), task, get_task(task))


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
    assert f"the model is in {folder}/model" in out and "import lm.hf" in out and "step 3 of 3, loss" in err
    lm.__main__.Sample(folder, num_samples=5, max_new_tokens=6).run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(" = |" in line and "<" not in line for line in lines)


def test_bad_input_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for args, word in [
        (["train", "cfg3f"], "--output-dir"),
        (["train", "cfg3f", "--output-dir", "x", "--train.steps", "0"], "steps=0 is too small"),
        (["train", "cfg3f", "--output-dir", "x", "--train.lr", "nan"], "lr=nan"),
        (
            ["train", "brackets", "--output-dir", "x", "--train.seq-len", "2000000000", "--train.batch-size", "999"],
            "lower batch",
        ),
        (["train", "cfg3f", "--output-dir", str(tmp_path / "file")], "cannot write to"),
        (["sample", "--output-dir", str(tmp_path), "--num-samples", "-1"], "--num-samples -1"),
        (["sample", "--output-dir", str(tmp_path)], "no model at"),
        (
            ["sample", "--output-dir", "x", "--trust-code", "gone.py", "--trust-code", str(tmp_path / "file")],
            "no file gone.py",
        ),
    ]:
        code, err = status(capsys, monkeypatch, *args)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and word in err, (args, err)


def test_a_training_in_this_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Exception):
        pass

    def tell(track: str, folder: Path, run: str, settings: object) -> None:
        raise Told(run)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lm.training.trackers.open_tracker", tell)
    with pytest.raises(Told, match=f"^{tmp_path.name}$"):
        train("brackets", Path("."))


def test_two_processes_do_not_share_a_folder(
    reverse: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    code, err = status(capsys, monkeypatch, "train", reverse, "--output-dir", str(tmp_path))
    os.close(handle)
    assert code == 2 and "another process is training" in err and err.count("\n") == 2  # with whose code runs


def test_a_full_disk_at_a_row(tmp_path: Path, reverse: str) -> None:
    (tmp_path / "run").mkdir()
    code = (
        "import builtins, sys, lm.training.history\n"
        "def full(path, mode='r', *rest):\n"
        "    if mode == 'a': raise OSError(28, 'No space left on device')\n"
        "    return builtins.open(path, mode, *rest)\n"
        "lm.training.history.open = full\n"
        "import lm.__main__\n"
        "sys.exit(lm.__main__.main())"
    )
    options = ["--output-dir", str(tmp_path / "run"), "--train.steps", "1", "--model.d-model", "8"]
    command = [sys.executable, "-c", code, "train", reverse, *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "free some space" in done.stderr and done.stderr.count("\n") == 2


def run_cli(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lm", *map(str, args)])
    return lm.__main__.main()


SMALL = ["--train.steps", 2, "--train.batch-size", 2, "--train.seq-len", 32, "--model.d-model", 8, "--model.n-heads", 1]


def test_the_fields_of_a_task_are_flags_and_sample_makes_the_same_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = ["--ops", 2, "--modulus", 5, "--data-seed", 3]
    assert run_cli(monkeypatch, "train", "mano", *fields, "--output-dir", tmp_path, *SMALL) == 0
    note = json.loads((tmp_path / "model/task.json").read_text())
    task = get_task("mano", ops=2, modulus=5)
    assert note == {"task": "mano", "fields": {"ops": 2, "modulus": 5}, "key": task.key, "data_seed": 3}
    capsys.readouterr()
    assert run_cli(monkeypatch, "sample", "--output-dir", tmp_path, "--num-samples", 4, "--max-new-tokens", 3) == 0
    prompts = [line.split(" |")[0] for line in capsys.readouterr().out.splitlines()]
    block = Corpus(task, 3, "test").documents(0, 4)
    names = task.vocab().names
    assert prompts == [" ".join(names[i] for i in block[j].prompt if i) for j in range(4)]
    for change, word in [
        ({"key": "0"}, "names mano as it was when the model was trained"),
        ({"fields": {"opz": 2}}, "task.json: unknown key opz; did you mean ops?"),
        ({"fields": {"ops": "x"}}, "task.json: --ops: invalid literal for int()"),
        ({"fields": 3}, "does not name a task"),
        ({"task": "nobody.py:Task"}, "no file nobody.py"),
    ]:
        (tmp_path / "model/task.json").write_text(json.dumps(note | change))
        code, err = status(capsys, monkeypatch, "sample", "--output-dir", str(tmp_path))
        assert code == 2 and word in err and err.count("\n") == 1, err


def test_help_explains_the_task_the_model_and_the_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_cli(monkeypatch, "train", "mano", "--help") == 0
    text = capsys.readouterr().out
    assert all(flag in text for flag in ("--modulus", "--model.n-layers", "--train.steps", "--config"))
    assert run_cli(monkeypatch, "train", "--help") == 0 and "--modulus" not in capsys.readouterr().out
    assert run_cli(monkeypatch, "--help") == 0 and "task: {name: mano, ops: 2" in capsys.readouterr().out


CONFIG = """
task: {name: mano, ops: 2, modulus: 5}
model: {n_layers: 1, n_heads: 1, d_model: 8, bias: false, d_ff: null}
train: {steps: 2, batch_size: 2, seq_len: 32, lr: 2e-3, betas: [0.8, 0.9], compile: false}
init_seed: 4
"""


def test_a_configuration_file_and_flags_that_override_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def keep(self: lm.__main__.Train, task: object, spec: str, default: object) -> None:
        seen.append((self, task, spec))

    monkeypatch.setattr(lm.__main__.Train, "run", keep)
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    assert run_cli(monkeypatch, "train", "--config", path, "--output-dir", "x") == 0
    assert run_cli(monkeypatch, "train", f"--config={path}", "--output-dir=x", "--train.lr", "1e-4", "--ops", 3,
                   "--model.bias", "--init-seed", 5) == 0  # fmt: skip
    assert run_cli(monkeypatch, "train", "copy", "--config", path, "--output-dir", "x", "--length", 9) == 0
    path.write_text("task: {ops: 2}")
    assert run_cli(monkeypatch, "train", "mano", "--config", path, "--output-dir", "x", "--modulus", 7) == 0
    (first, task, spec), (second, other, _), (_, third, _), (_, nameless, _) = seen
    assert nameless == get_task("mano", ops=2, modulus=7)
    assert (task, spec) == (get_task("mano", ops=2, modulus=5), "mano")
    assert first.model == ModelConfig(1, 1, 8, bias=False)
    assert first.train == TrainConfig(2, 2, 32, lr=2e-3, betas=(0.8, 0.9), compile=False) and first.init_seed == 4
    assert (second.train.lr, second.model.bias, second.init_seed) == (1e-4, True, 5)
    assert other == get_task("mano", ops=3, modulus=5) and third == get_task("copy", length=9)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("task: mano\ntrain: {stepz: 3}", "unknown key train.stepz; did you mean steps?"),
        ("task: mano\ntrain: {steps: x}", "train.steps: invalid literal for int()"),
        ("task: mano\ntrain: {steps: 0}", "steps=0 is too small"),
        ("task: mano\nmodel: {bias: maybe}", "model.bias takes true or false"),
        ("task: mano\nmodel: {positions: nowhere}", "model.positions"),
        ("task: mano\nmodel: 3", "model takes keys of its own"),
        ("task: mano\ntrain: {lr: [1, 2]}", "train.lr takes one value"),
        ("task: mano\ntrain: {betas: [--help, 1]}", "train.betas takes a list of values"),
        ("task: {name: mano, opz: 3}", "unknown key opz; did you mean ops?"),
        ("task: manoo", "did you mean mano?"),
        ("steps: 3", "task takes a name"),
        ("task: mano\nhelp: true", "unknown key help"),
        ("task: mano\ntrust_code: x.py", "give --trust-code there"),
        ("- mano", "holds no keys"),
        ("a: [", "while parsing"),
        ("[" * 5000, "is no configuration"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_a_wrong_configuration_is_one_line_with_file_and_key(
    text: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    code, err = status(capsys, monkeypatch, "train", "--config", str(path))
    assert code == 2 and err.startswith(f"error: {path}") and err.count("\n") == 1 and word in err, err


@pytest.mark.parametrize("text", ["task: {file}:Evil", "task: mano\nmodel: {{mixer: '{file}:Evil'}}"])
def test_code_that_only_a_configuration_file_names_does_not_run(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, path = tmp_path / "evil.py", tmp_path / "run.yaml"
    code.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'owned')!r}).touch()\n")
    path.write_text(text.format(file=code))
    line = ["train", "--config", str(path), "--output-dir", str(tmp_path / "x")]
    found, err = status(capsys, monkeypatch, *line)
    assert found == 2 and f"give --trust-code {code}" in err and not (tmp_path / "owned").exists()
    found, err = status(capsys, monkeypatch, *line, "--trust-code", str(code))
    assert found == 2 and (tmp_path / "owned").exists()  # it runs, and defines nothing


def test_a_training_ends_with_how_good_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """copy of 3 symbols is learned in seconds; what `sample --json` prints, `synth score` reads."""
    from synth.__main__ import main as synth_main

    small = ["--length", "3", "--model.d-model", "32", "--model.n-layers", "2", "--model.max-seq-len", "64"]
    train = ["--train.steps", "400", "--train.seq-len", "32", "--train.lr", "5e-3", "--train.packing", "none"]
    command = ["train", "copy", *small, "--model.positions", "learned", "--output-dir", tmp_path / "run", *train]
    assert run_cli(monkeypatch, *command) == 0
    told = capsys.readouterr().out
    (line,) = re.findall(r"on 200 test documents: loss (\S+) nats \(floor 0\), correct (\S+) \(chance (\S+)\)", told)
    assert float(line[1]) > 0.95 and float(line[0]) < 1 and float(line[2]) == pytest.approx(1 / 6, abs=0.01)
    assert run_cli(monkeypatch, "eval", "--output-dir", tmp_path / "run", "--num-samples", "50") == 0
    assert capsys.readouterr().out.startswith("on 50 test documents: loss ")
    assert run_cli(monkeypatch, "sample", "--output-dir", tmp_path / "run", "--temperature", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 and sum(line.endswith("[right]") for line in lines) >= 9 and "..." not in lines[0]
    assert run_cli(monkeypatch, "sample", "--output-dir", tmp_path / "run", "--temperature", "0", "--json") == 0
    (tmp_path / "said.jsonl").write_text(capsys.readouterr().out)
    synth_main(["score", "copy", "--length", "3", "--input", str(tmp_path / "said.jsonl")])
    scores = [json.loads(line)["correct"] for line in capsys.readouterr().out.splitlines()]
    said = [json.loads(line)["correct"] for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert scores == said and sum(scores) >= 9
