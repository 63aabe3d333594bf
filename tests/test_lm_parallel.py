"""Data parallel: two ranks train on their rows of the same global batch and end with the weights of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

ROOT = Path(__file__).parent.parent
SCRIPT = """
import sys
from accelerate import PartialState
from lm.checkpoint import save
from lm.config import ModelConfig, TrainConfig
from lm.model import build
from lm.train import train
from synth import get_task

task = get_task("cfg3f", root="13")
positions, objective = sys.argv[2:]
shape = ModelConfig(1, 2, 16, 32, positions=positions, causal=objective == "causal")
model = build(shape, shape.ids(task.vocab()), 0)
config = TrainConfig(steps=6, batch=8, window=32, lr=1e-2, accumulate=2, objective=objective)
history = train(model, task, config, 0, log_every=2, progress=lambda *_: None)
if PartialState().is_main_process:
    save(model, sys.argv[1])
    print([round(row["loss"], 5) for row in history], history.tokens, history.documents)
"""


@pytest.mark.parametrize(
    ("positions", "objective"), [("rotary", "causal"), ("uniform", "causal"), ("relative", "masked")]
)
def test_two_ranks_equal_one(positions: str, objective: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(SCRIPT)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    printed, weights = [], []
    for ranks, launcher in ((1, []), (2, torchrun)):
        folder = tmp_path / str(ranks)
        command = [sys.executable, *launcher, str(tmp_path / "job.py"), str(folder), positions, objective]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        printed.append(done.stdout.strip().splitlines()[-1])
        weights.append(safetensors.numpy.load_file(folder / "model.safetensors"))
        assert json.loads((folder / "config.json").read_text())["vocab_size"] == (6 if objective == "causal" else 7)
    assert printed[0] == printed[1]
    assert all(np.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])
