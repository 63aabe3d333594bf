"""Several ranks, each with a whole model or with a part of one, train as one process does; see ranks_job.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks_job
import safetensors.torch
import torch

ROOT = Path(__file__).resolve().parents[3]
KINDS = {"whole": {}, "in parts": {"ACCELERATE_USE_FSDP": "true"}}
CASES = {"whole": list(ranks_job.CASES), "in parts": ["canon", "relative", "experts", "adapters"]}
NOT_EXACT = 1e-5


def launch(ranks: int, folder: Path, name: str, *orders: str, **variables: str) -> list[dict[str, Any]]:
    """What each rank found."""
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1", **variables}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += [str(ROOT / "tests/helpers/ranks_job.py"), str(folder), name, *orders]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{name}{rank}.json").read_text()) for rank in range(ranks)]


def weights(folder: Path, name: str, key: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"{name} {key.replace('/', ' ')}")


def near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], by: float = NOT_EXACT) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[key], other[key], atol=by) for key in one)


@pytest.fixture(scope="module")
def single() -> dict[str, Any]:
    """What one process finds."""
    return {name: ranks_job.result(name) for name in ranks_job.CASES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that launches share; in it `one`, a training that one process was stopped in."""
    folder = tmp_path_factory.mktemp("ranks")
    assert ranks_job.stop(folder / "one") == [signal.SIGUSR1]
    assert [path.name for path in folder.glob("one/step-*")] == ["step-7"]
    return folder


@pytest.fixture(scope="module")
def pairs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What two ranks find that train all cases, stop one training, and go on with the one that one process left."""
    found = {}
    for name, cases in CASES.items():
        shutil.copytree(folder / "one", folder / f"one to {name}")
        shutil.copytree(folder / "one", folder / f"damaged {name}")
        (folder / f"damaged {name}" / "step-7" / "tensors.safetensors").write_bytes(b"cut")
        orders = [f"apart:{folder / 'one'}|{other}" for other in (folder / "nowhere", folder / f"damaged {name}")]
        orders += [f"stop:{folder / name}", f"go on:{folder / f'one to {name}'}", *(f"case:{case}" for case in cases)]
        found[name] = launch(2, folder, name, "alone:resumed", "spread", *orders, **KINDS[name])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_as_one_process(kind: str, pairs: Any, single: dict[str, Any], folder: Path) -> None:
    for case in CASES[kind]:
        alone, order = single[case], f"case:{case}"
        for found in pairs[kind]:
            assert found[order]["counts"] == alone["counts"], case
            assert found[order]["losses"] == pytest.approx(alone["losses"], abs=NOT_EXACT), case
        assert near(weights(folder, kind, order), alone["weights"], 10 * NOT_EXACT), case


def test_exposures_are_those_of_the_whole_batch(pairs: Any, single: dict[str, Any]) -> None:
    found, counts = pairs["whole"][0]["case:people"], single["people"]["counts"]
    assert len(found["losses"]) == 200 and found["counts"] == counts
    assert sum(counts["exposures"]) == counts["documents"] > 0


def test_parts_are_parts_and_all_ranks_hear_of_a_bad_one(pairs: Any, single: dict[str, Any]) -> None:
    count = sum(weight.numel() for weight in single["resumed"]["weights"].values())
    assert [rank["spread"]["weights held"] for rank in pairs["whole"]] == [count, count]
    held = [rank["spread"]["weights held"] for rank in pairs["in parts"]]
    assert sum(held) == count and max(held) < 0.55 * count
    assert [rank["spread"]["diverged"] for rank in pairs["in parts"]] == [True, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_may_train_alone_while_the_others_wait(kind: str, pairs: Any, single: Any, folder: Path) -> None:
    first, second = pairs[kind]
    assert first["alone:resumed"]["losses"] == single["resumed"]["losses"] and "alone:resumed" not in second
    found = weights(folder, kind, "alone:resumed")
    assert all(torch.equal(weight, found[name]) for name, weight in single["resumed"]["weights"].items())


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_agree_on_when_to_stop_and_save_once(kind: str, pairs: Any, folder: Path) -> None:
    assert [rank[f"stop:{folder / kind}"]["heard"] for rank in pairs[kind]] == [[signal.SIGUSR1], []]
    assert [path.name for path in folder.glob(f"{kind}/step-*")] == ["step-8"]  # the row after the one that told


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_that_find_different_checkpoints_refuse_together(kind: str, pairs: Any, folder: Path) -> None:
    for rank in pairs[kind]:
        found = rank[f"apart:{folder / 'one'}|{folder / 'nowhere'}"]
        assert found["kind"] == "UserError" and "give all machines the same folder of runs" in found["said"]
        assert rank[f"apart:{folder / 'one'}|{folder / f'damaged {kind}'}"]["kind"] == "DamagedCheckpoint"


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_go_on_where_one_process_stopped(kind: str, pairs: Any, single: Any, folder: Path) -> None:
    order = f"go on:{folder / f'one to {kind}'}"
    check_resumed(pairs[kind][0][order], weights(folder, kind, order), single["resumed"])


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_where_two_ranks_stopped(kind: str, pairs: Any, single: Any, folder: Path) -> None:
    found = ranks_job.result("resumed", Path(shutil.copytree(folder / kind, folder / f"{kind} to one")))
    check_resumed(found, found["weights"], single["resumed"])


def test_four_ranks_go_on_where_two_stopped(pairs: Any, single: Any, folder: Path) -> None:
    orders = [f"go on:{shutil.copytree(folder / kind, folder / f'{kind} to four')}" for kind in KINDS]
    first, *_ = launch(4, folder, "four", *orders)
    for order in orders:
        check_resumed(first[order], weights(folder, "four", order), single["resumed"])


def check_resumed(found: dict[str, Any], weights: dict[str, torch.Tensor], whole: dict[str, Any]) -> None:
    """Every second step is logged, in it the mean of two."""
    assert found["counts"] == whole["counts"] and near(weights, whole["weights"])
    means = [sum(whole["losses"][step : step + 2]) / 2 for step in range(0, 20, 2)]
    assert found["losses"] == pytest.approx(means, abs=NOT_EXACT)
