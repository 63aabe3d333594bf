"""The same runs on this machine, on Ray and by submitit: equal tables, nothing lost with a worker, a node or a job."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fake_experiment
import pandas as pd
import pytest
from fake_experiment import Coin

from experiments.harness import Run, cli, with_seeds
from experiments.harness.executors.scheduling import schedule
from lm.config import ModelConfig, TrainConfig
from tests.experiments.execution.test_execute import lines, log, script, start, succeeds, wait_for  # noqa: F401 (fixtures)

pytest.importorskip("ray", reason="the extra `cluster` is not installed")
pytest.importorskip("submitit", reason="the extra `cluster` is not installed")
# a cluster of several nodes on one machine; each line on its standard input takes the last node away
NODES = """
import sys
from ray.cluster_utils import Cluster
small = {"object_store_memory": 1 << 27, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=1 << 27) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("gone", flush=True)
"""


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    """Ray makes one at its first start and wants it at the next, so that tests at the same time would disturb it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def table(folder: Path) -> str:
    """Without the time that it took."""
    return pd.read_csv(folder / "results/01_fake/laptop/table.csv").drop(columns="seconds").to_csv()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    """The table of the fake experiment by one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = folder / "experiments" / "01_fake.py"
    path.parent.mkdir()
    path.write_bytes(Path(fake_experiment.__file__).read_bytes())
    cli.main(str(path), ["--scale", "laptop", "--jobs", "1"])
    return table(folder)


def named(pattern: str) -> list[int]:
    """The processes of this machine whose command line has the words, newest last."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if pattern in path.read_bytes().replace(b"\0", b" ").decode():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(found)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_ray_makes_the_same_table(tmp_path, start, log, undisturbed):  # noqa: F811
    arguments = ("--scale", "laptop", "--jobs", "2", "--executor", "ray")
    succeeds(start(*arguments))
    assert table(tmp_path) == undisturbed and len(lines(log)) == 6
    assert not list((tmp_path / "runs").glob(".progress/????????????"))
    succeeds(start(*arguments))
    assert len(lines(log)) == 6


def test_a_sweep_outlives_a_job(tmp_path, start, log, undisturbed):  # noqa: F811
    hang, runs = tmp_path / "hang", tmp_path / "runs"
    hang.touch()
    arguments = ("--scale", "laptop", "--jobs", "2", "--executor", "slurm", "--address", "local")
    sweep = start(*arguments, FAKE_HANG=str(hang))
    wait_for(lambda: len(list(runs.glob("*.partial/model"))) == 2, sweep)
    jobs = [pid for pid in named("submitit.core._submit") if str(runs / ".slurm") in " ".join(_arguments(pid))]
    os.kill(jobs[0], signal.SIGKILL)
    hang.unlink()
    succeeds(sweep)
    assert table(tmp_path) == undisturbed and len(lines(log)) == 6


def test_a_sweep_outlives_a_worker_and_a_node_of_ray(tmp_path, start, log, undisturbed):  # noqa: F811
    hang = tmp_path / "hang"
    hang.touch()
    variables = {**os.environ, "FAKE_HANG": str(hang), "FAKE_LOG": str(log), "OMP_NUM_THREADS": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", NODES], env=variables, **streams) as nodes:
        address = nodes.stdout.readline().strip()
        assert address, "no cluster"  # every process of this machine has the empty word
        try:
            sweep = start("--scale", "laptop", "--executor", "ray", "--address", address, FAKE_HANG=str(hang))
            # both nodes are at an evaluation
            wait_for(lambda: len(list((tmp_path / "runs").glob("*.partial/model"))) == 2, sweep)
            raylets = named(address)
            os.kill(next(pid for pid in named("ray::_work") if parent(pid) in raylets), signal.SIGKILL)
            nodes.stdin.write("\n")
            nodes.stdin.flush()
            assert nodes.stdout.readline() == "gone\n"
            hang.unlink()
            succeeds(sweep)
        finally:
            nodes.kill()
            for pid in named(address):  # a cluster whose parent was killed stays
                os.kill(pid, signal.SIGKILL)
    assert table(tmp_path) == undisturbed and sorted(lines(log)) == sorted(
        f"{p} {k}" for p in (0.5, 0.9) for k in range(3)
    )


def test_a_job_near_its_time_limit_saves_and_goes_on(tmp_path, start):  # noqa: F811
    arguments = ("--scale", "smoke", "--executor", "slurm", "--address", "local", "--jobs", "1")
    runs = tmp_path / "runs"
    sweep = start(*arguments, FAKE_STEPS="2000")
    wait_for(lambda: list(runs.glob(".models/*.partial/checkpoint/metrics.jsonl")), sweep)
    folder = str(runs / ".slurm")
    (job,) = [pid for pid in named("submitit.core._submit") if folder in " ".join(_arguments(pid))]
    time.sleep(0.3)
    os.kill(job, signal.SIGUSR2)
    succeeds(sweep)
    printed = "".join(path.read_text() for path in runs.glob(".slurm/*_log.*"))
    assert "Requeued job" in printed
    assert len(list(runs.glob("*/rows.json"))) == 2


@pytest.mark.parametrize("executor", [["ray"], ["slurm", "--address", "local"]], ids=lambda each: each[0])
def test_a_sweep_that_is_stopped_saves_the_step_it_is_at(tmp_path, start, executor):  # noqa: F811
    arguments = ("--scale", "smoke", "--jobs", "1", "--executor", *executor)
    models = tmp_path / "runs" / ".models"
    sweep = start(*arguments, FAKE_STEPS="4000")
    wait_for(lambda: list(models.glob("*.partial/checkpoint/step-*")), sweep)
    sweep.send_signal(signal.SIGTERM)
    _, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 128 + signal.SIGTERM and "Traceback" not in errors
    assert errors.rstrip().endswith("stopped; run the same command to go on")
    for checkpoint in models.glob("*.partial/checkpoint"):
        (saved,) = [int(path.name.removeprefix("step-")) for path in checkpoint.glob("step-*")]
        assert json.loads(lines(checkpoint / "metrics.jsonl")[-1])["step"] <= saved < 4000


def _arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--address", "auto"], "add --executor ray"),
        (["--gpus", "0.5"], "add --executor ray"),
        (["--gpus", "1.5", "--executor", "ray"], "neither a part of a GPU"),
        (["--slurm", "partition=a"], "add --executor slurm"),
        (["--executor", "slurm"], "there is no sbatch here"),
        (["--executor", "slurm", "--address", "local", "--slurm", "partition"], "write KEY=VALUE"),
        (["--executor", "slurm", "--address", "local", "--gpus", "0.5"], "Slurm gives whole cards"),
        (["--executor", "ray", "--address", "127.0.0.1:1"], "no Ray at 127.0.0.1:1 ("),
        (["--executor", "ray", "--gpus", "0.5"], "this Ray has no GPU"),
    ],
)
def test_bad_input_is_one_line(tmp_path, start, arguments, message):  # noqa: F811
    process = start("--scale", "smoke", *arguments, PATH="/usr/bin:/bin")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and message in errors.strip().splitlines()[-1] and "Traceback" not in errors


def test_runs_are_taken_up_seed_by_seed_and_the_longest_first():
    train = TrainConfig(steps=5, batch_size=2, seq_len=16)
    shapes = [None] + [ModelConfig(n_layers=1, n_heads=2, d_model=width, max_seq_len=16) for width in (8, 64, 16)]
    configurations = [Run("01_fake", Coin(), model, train if model else None) for model in shapes]
    order = schedule(with_seeds([*configurations, replace(configurations[1], train=replace(train, steps=6))], 2))
    assert [run.seeds.init for run in order] == [0] * 5 + [1] * 5
    assert [(run.model.d_model, run.steps) if run.model else None for run in order[:5]] == [
        (64, 5),
        (16, 5),
        (8, 6),
        (8, 5),
        None,
    ]
