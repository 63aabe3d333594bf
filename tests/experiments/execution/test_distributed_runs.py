"""Two ranks carry out an experiment as one process does, stop when told to, and never wait for one that left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_experiment
import pandas as pd
import pytest

from experiments.harness.executors import ExecutorConfig, leader_config
from synth import UserError

ROOT = Path(__file__).resolve().parents[3]
# a second training, with adapters, so that there are two that all ranks do; and an evaluation that trains, which the
# first rank does alone
CHANGES = {
    "from lm import ModelConfig, TrainConfig": "from experiments.harness import Stage\n"
    "from lm import ModelConfig, TrainConfig",
    'STEPS = {"smoke"': 'SECOND = TrainConfig(steps=300, batch_size=2, seq_len=16)\nSTEPS = {"smoke"',
    "for ones in (0.5, 0.9)": "for ones in (0.9,)",
    "(Score(),), tags=": "(Score(),), later_stages=(Stage(Coin(0.7), SECOND, lora_rank=2, lora_embed_rank=2),), tags=",
    '        while os.path.exists(os.environ.get("FAKE_HANG"': """        from lm.training.loop import train

        train(model, task, TrainConfig(steps=5, batch_size=3, seq_len=16), data_seed, on_step=lambda *_: None)
        while os.path.exists(os.environ.get("FAKE_HANG\"""",
}
TWICE = """
import sys

import lm.training.loop
from experiments.harness import main

train = lm.training.loop.train


def counted(*given, **named):
    print("trained by", lm.training.loop.dist_context().num_processes, flush=True)
    return train(*given, **named)


lm.training.loop.train = counted
try:
    main(sys.argv[1], [*sys.argv[2:], "--jobs", "2"])
except SystemExit as end:
    print("refused with", end.code, flush=True)
main(sys.argv[1], sys.argv[2:])
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "experiments" / "01_fake.py"
    path.parent.mkdir()
    text = Path(fake_experiment.__file__).read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    path.with_name("twice.py").write_text(TWICE)
    return path


@contextmanager
def started(*command: object, ranks: int = 1) -> Iterator[subprocess.Popen]:
    """A process, killed if it still runs in the end."""
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", f"{ranks}"] if ranks > 1 else []
    whole = [sys.executable, *launcher, *map(str, command)]
    pipe = subprocess.PIPE
    with subprocess.Popen(whole, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **own}) as process:
        try:
            yield process
        finally:
            process.kill()


def table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "results/01_fake/smoke/table.csv")


def test_two_ranks_do_what_one_process_does(script: Path, tmp_path: Path) -> None:
    home = tmp_path / "runs"
    with started(script, "--scale", "smoke", ranks=2) as process:
        end = time.monotonic() + 120
        while not [
            p for p in home.glob(".models/*.partial/checkpoint/step-*") if int(p.name[5:]) >= 50
        ]:  # the first has 20
            assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode, "it was not stopped"
    (checkpoint,) = home.glob(".models/*.partial/checkpoint/step-*")
    assert int(checkpoint.name.removeprefix("step-")) % 10 == 0
    with started(script.with_name("twice.py"), script, "--scale", "smoke", ranks=2) as process:
        said, errors = process.communicate(timeout=200)
        # gloo's threads have been seen to end so at exit, once in some forty times, when everything was written
        assert process.returncode == 0 or "terminate called without an active exception" in errors, errors
    assert errors.count("error: several ranks work on one run at a time; leave out --jobs and") == 1
    # two processes print at once, and their words may mingle
    assert said.count("refused with") == 2 and sorted(set(said) & {"0", "2"}) == ["0", "2"], said
    assert (said.count("trained by 2"), said.count("trained by 1")) == (2, 1), "two ranks, and the evaluation of one"
    assert said.count("table.csv\n") == 1, "one rank speaks for all"
    other = tmp_path / "other"
    folders = ["--results-dir", other / "results", "--runs-dir", other / "runs"]
    with started(script, "--scale", "smoke", "--jobs", "2", *folders) as process:
        assert process.wait(timeout=200) == 0
    ranks, single = table(tmp_path), table(other)
    pd.testing.assert_frame_equal(ranks.drop(columns="seconds"), single.drop(columns="seconds"), rtol=0, atol=1e-5)


def test_what_is_not_led_is_refused() -> None:
    with pytest.raises(UserError, match="for a single process; start it without"):
        leader_config(ExecutorConfig())
