"""Snapshots of a training on two ranks, each with a whole model or with a part of one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lm.model import Decoder
from lm.training.loop import train
from tests.lm.training.test_loop import CONFIG, TASK, model
from tests.lm.training.test_snapshots import rows

ROOT = Path(__file__).resolve().parents[3]
STEPS, END = (1, 4, 7, 10), 7
JOB = """
import json, sys
from pathlib import Path
import torch
from lm.training.distributed import dist_context
from lm.training.loop import train
from tests.lm.training.test_loop import CONFIG, TASK, model

folder, rank = Path(sys.argv[1]), dist_context().process_index

def on_snapshot(step, net):
    assert rank == 0 and dist_context().num_processes == 1 and not net.training
    with open(folder / "steps", "a") as file:
        file.write(f"{step}\\n")
    torch.save(net.state_dict(), folder / f"{step}.pt")
    with torch.enable_grad():
        train(model(), TASK, CONFIG, 1)  # a model of its own, while the other rank waits
    return step == 7

for name in ("first", "second"):
    dist_context().wait_for_everyone()  # the first rank may still write the checkpoint when the other one is done
    net = model()
    history = train(net, TASK, CONFIG, 0, folder=folder / "run", log_every=3, checkpoint_every=2,
                    snapshot_steps=(1, 4, 7, 10), on_snapshot=on_snapshot)
    (folder / f"{name}{rank}.json").write_text(json.dumps(history))
    torch.save(net.state_dict(), folder / f"{name}{rank}.pt")
"""


def close(path: Path, weights: dict[str, torch.Tensor], by: float = 1e-4) -> bool:
    found = torch.load(path)
    return all(torch.allclose(tensor, found[name], atol=by) for name, tensor in weights.items())


@pytest.mark.parametrize("variables", [{}, {"ACCELERATE_USE_FSDP": "true"}], ids=["whole", "in parts"])
def test_the_first_rank_takes_snapshots_and_ends_all(tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "job.py").write_text(JOB)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests/helpers")))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1", **variables}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, tmp_path / "job.py", tmp_path], capture_output=True, text=True, env=env, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    single: dict[int, dict[str, torch.Tensor]] = {}

    def on_snapshot(step: int, net: Decoder) -> bool:
        single[step] = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        return step == END

    history: Any = train(model(), TASK, CONFIG, 0, log_every=3, snapshot_steps=STEPS, on_snapshot=on_snapshot)
    assert (tmp_path / "steps").read_text().split() == ["1", "4", "7"]  # the second call ends at once
    assert all(close(tmp_path / f"{step}.pt", each) for step, each in single.items())
    for name in ("first0", "first1", "second0", "second1"):
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert [row["step"] for row in found] == [3, 6, 7]
        assert [row["loss"] for row in rows(found)] == pytest.approx([row["loss"] for row in history], abs=1e-4)
        assert close(tmp_path / f"{name}.pt", torch.load(tmp_path / f"{END}.pt"), 0.0)
    assert [each.name for each in tmp_path.glob("run/step-*")] == ["step-7"]
