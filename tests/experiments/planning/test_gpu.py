"""Prices: planted examples worked out by hand, every experiment at every scale, and counts held to real models."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.harness.experiment import Experiment, discover
from experiments.harness.planning import disk
from experiments.harness.planning.cost import Cost, costs
from experiments.harness.planning.gpu import (
    GPU,
    GPUS,
    HALF_WIDTH,
    KEPT,
    Load,
    gpu_hours,
    memory,
    place,
    utilisation,
)
from experiments.harness.planning.report import assumptions, bill, hours, report, summary
from lm import ModelConfig
from lm.mixers import installed_mixers
from lm.model import build, outline
from lm.model_size import count_parameters, flops_per_token, size_of
from lm.training.step import Objective

H100, A100 = GPUS["h100"], GPUS["a100"]
GPT2 = Load(parameters=124_000_000, rows=64, window=1024, per_token=100_000.0, layers=12, cache=0.0)
COST = Cost(
    label="one", runs=2, finished=0, parameters=1000, width=768, steps=100, tokens=3200, flops=1e18, memory=1e6,
    load=GPT2, seconds=60.0, on_gpu=False, r_max=None, matched=None, all_flops=2e18, left=120.0, models=2,
)  # fmt: skip


def test_hours_of_a_planted_run() -> None:
    """1e18 FLOPs at half of 1e15 a second are 2000 seconds."""
    assert gpu_hours(1e18, GPU("", 1e15, 1.0, 1.0, 1.0), 0.5) == pytest.approx(2000 / 3600)
    assert gpu_hours(0.0, H100, 0.0) == 0
    assert hours(COST, H100) == pytest.approx(2e18 / (989e12 * 0.4) / 3600, rel=0.01)
    assert hours(replace(COST, on_gpu=True), H100) == pytest.approx(2 * 60 / 3600), "steps that were timed come first"
    assert hours(replace(COST, width=0, all_flops=0.0), H100) == 0


def test_the_utilisation_is_the_published_one_where_there_is_one() -> None:
    small = flops_per_token(ModelConfig.gpt2(12, 12, 768, context=1024), 50257, 1024)
    large = flops_per_token(ModelConfig.gpt2(48, 25, 1600, context=1024), 50257, 1024)
    assert utilisation(H100, 768) == pytest.approx(10e9 / 2700 / 8 * small / 989e12, rel=0.005)
    assert utilisation(A100, 768) == pytest.approx(524_288 / 0.3 / 8 * small / 312e12, rel=0.005)
    assert utilisation(H100, 1600) == pytest.approx(1_048_576 / 2.8 / 8 * large / 989e12, rel=0.01)
    assert utilisation(H100, HALF_WIDTH) == pytest.approx(utilisation(H100, 10**9) / 2, rel=1e-6)
    shares = [utilisation(A100, width) for width in (16, 64, 256, 1024, 4096)]
    assert shares == sorted(shares) and 0 < shares[0] < 0.1 and shares[-1] < 1


def test_memory_of_a_planted_model() -> None:
    """124M parameters; 64 rows of 1024 tokens at 100 kB keep 6.5536e9 bytes, an eighth of it on each of eight GPUs."""
    assert memory(GPT2) == pytest.approx(18 * 124e6 + 6.5536e9)
    assert memory(GPT2, 8) == pytest.approx(22 * 124e6 + 6.5536e9 / 8)
    assert memory(GPT2, 8, sharded=True) == pytest.approx(16 * 124e6 / 8 + 12 * 124e6 / 12 + 6.5536e9 / 8)
    assert memory(replace(GPT2, cache=9e9), 8) == pytest.approx(22 * 124e6 + 9e9), "a cache is not shared"
    assert memory(replace(GPT2, rows=2), 8) == pytest.approx(22 * 124e6 + 1024 * 1e5), "a GPU has a row at least"


def test_the_fewest_gpus_whole_models_first() -> None:
    assert (one := place(GPT2, H100)) is not None and (one.gpus, one.sharded) == (1, False)
    wide = replace(GPT2, rows=1536)  # 157 GB of activations
    assert (four := place(wide, H100)) is not None and (four.gpus, four.sharded) == (4, False)
    assert four.bytes == memory(wide, 4) <= 72e9 < memory(wide, 2)
    deep = replace(GPT2, parameters=7_000_000_000, layers=32, rows=8)  # 126 GB of state
    assert (shards := place(deep, H100)) is not None and shards.sharded and memory(deep, 8) > 80e9
    assert place(replace(GPT2, parameters=10**12), H100) is None
    crowded = replace(GPT2, parameters=4_200_000_000, rows=64, window=1, per_token=1.0)
    assert (parts := place(crowded, H100)) is not None and (parts.gpus, parts.sharded) == (2, True)
    assert (odd := place(replace(wide, rows=96, per_token=1.6e6), H100)) is not None and 96 % odd.gpus == 0


SWITCHES: list[dict] = [
    {},
    {"positions": "relative"},
    {"canon": "ABCD"},
    {"qk_norm": True},
    {"mlp": "swiglu", "norm": "rms", "bias": False},
    *({"mixer": mixer, "positions": "none"} for mixer in KEPT if mixer != "attention"),
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_what_a_token_keeps_is_what_autograd_saves(switches: dict) -> None:
    """By what more layers and more rows add, as the copies of weights and the ends of the model are counted apart."""

    def saved(layers: int, rows: int) -> int:
        config = ModelConfig(layers, 4, 256, context=128, **switches)
        objective, seen = Objective(build(config, 50, 0)), {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no other takes its place
            return tensor

        tokens = torch.randint(50, (rows, 128))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16):
            objective(tokens, tokens, None)
        return sum(size for size, _ in seen.values())

    def told(layers: int) -> float:
        return Load.of(ModelConfig(layers, 4, 256, context=128, **switches), 50, 0, 1, 128).per_token

    found = (saved(3, 4) - saved(1, 4) - saved(3, 2) + saved(1, 2)) / (2 * 2 * 128)
    assert found == pytest.approx((told(3) - told(1)) / 2, rel=0.1)


def test_storage_of_a_planted_model(tmp_path: Path) -> None:
    assert disk.model_bytes(124_000_000) == 496_000_000
    assert disk.checkpoint_bytes(124_000_000) == 2 * 12 * 124_000_000, "the old one goes when the new one is whole"
    assert disk.folder_bytes(1000, 0) == 2 * 100 * 130 + 8000
    table = tmp_path / "01_x" / "laptop" / "table.csv"
    table.parent.mkdir(parents=True)
    table.write_text("run,loss\na,1\na,2\nb,3\n")
    assert disk.row_bytes(tmp_path, "01_x") == table.stat().st_size / 2
    assert disk.row_bytes(tmp_path, "02_y") == disk.UNKNOWN
    table.write_text("run,loss\n" + "a" * 200_000)  # csv refuses such a cell
    assert disk.row_bytes(tmp_path, "01_x") == disk.UNKNOWN


@pytest.mark.parametrize("mixer", ["attention", *sorted(installed_mixers())])
def test_sizes_from_one_block_are_those_of_the_whole(mixer: str) -> None:
    plain = ModelConfig(3, 4, 32, mixer=mixer, positions="none")
    switched = [{}, {"tied": False}, {"mlp": "swiglu"}, {"mlp": "none"}, {"experts": 4, "top_k": 2}, {"canon": "AC"}]
    for changes in switched + [{"positions": "learned"}, {"positions": "relative"}] * (mixer == "attention"):
        config = replace(plain, **changes)
        model = outline(config, 11)
        assert size_of(config, 11).total == count_parameters(model)["total"], changes
        used = config.top_k / max(config.experts, 1)
        matrices = sum(
            p.numel() * (used if ".experts." in name else 1)
            for name, p in model.blocks.named_parameters()
            if p.ndim > 1 and ".distance" not in name
        )
        assert size_of(config, 11).multiplied == matrices + 11 * 32, changes


def test_a_sum_adds_hours_and_disk_and_takes_the_largest_memory(tmp_path: Path) -> None:
    one = bill("01_a", "paper", [COST], H100, tmp_path)
    assert one.flops == 2e18 and one.stated == pytest.approx(2e18 / (0.3 * 989e12) / 3600)
    assert one.models == 2 * 4000 and one.checkpoints == 24_000 and one.one == memory(GPT2)
    assert one.folders == 2 * (disk.folder_bytes(100, disk.UNKNOWN) + disk.UNKNOWN)
    lines = summary([one, replace(one, name="02_b", one=99e9, runs=5)]).splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are straight"
    assert lines[-1].split()[:5] == ["all", "paper", "7", "4.00e+18", f"{2 * one.published:.3g}"]
    assert "99GB" in lines[-1] and "16kB" in lines[-1] and "24kB" in lines[-1]


def test_prices_in_print() -> None:
    text = report("01_a", "paper", [COST, replace(COST, load=None)], 2, H100)
    assert "1 x 8.79GB" in text and "2.81 GPU hours" in text.splitlines()[-1]
    assert "too large" in report("x", "paper", [replace(COST, load=replace(GPT2, parameters=10**13))], 2)
    for gpu in GPUS.values():
        assert gpu.name in assumptions(gpu, False) and "measured: steps timed" in assumptions(gpu, True)
        assert all(len(line) <= 120 for line in assumptions(gpu, False).splitlines())


@pytest.mark.parametrize("experiment", discover(), ids=lambda experiment: experiment.name)
def test_every_experiment_has_a_price(experiment: Experiment, tmp_path: Path) -> None:
    longest = {"smoke": 1, "paper": 1e6}  # GPU hours; `make test` prices the other scales
    for scale in longest:
        one = bill(experiment.name, scale, costs(experiment.runs(scale), tmp_path), H100, tmp_path)
        assert 0 < one.published < longest[scale] and one.stated > 0 and one.gpus >= 1, scale
        assert one.models > 0 and one.checkpoints > 0 and one.folders > 0 and one.sharded <= one.node <= 72e9


def test_a_model_is_counted_once_over_experiments(tmp_path: Path) -> None:
    runs = discover()[0].runs("smoke")
    seen: set = set()
    first, again = costs(runs, tmp_path, seen=seen), costs(runs, tmp_path, seen=seen)
    assert sum(cost.models for cost in first) == len({cost.label for cost in first}) and not any(
        cost.models for cost in again
    )
    assert all(0 < b.all_flops < a.all_flops for a, b in zip(first, again, strict=True)), "evaluations are done twice"
