"""Costs: planted examples worked out by hand, and every experiment at every scale."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.harness.experiment import Experiment, discover
from experiments.harness.planning import disk
from experiments.harness.planning.cost import Cost, estimate_costs
from experiments.harness.planning.gpu_hours import (
    GPU,
    GPUS,
    HALF_EFFICIENCY_WIDTH,
    find_placement,
    gpu_hours,
    mfu,
)
from experiments.harness.planning.report import (
    assumptions,
    configuration_gpu_hours,
    cost_table,
    summarize_costs,
    summary_table,
)
from lm.config import ModelConfig
from lm.memory import bytes_per_device
from lm.mixers import installed_mixers
from lm.model import meta_model
from lm.model_size import count_parameters, flops_per_token, size_of
from tests.lm.test_memory import GPT2

H100, A100 = GPUS["h100"], GPUS["a100"]
COST = Cost(
    label="one", runs=2, finished=0, parameters=1000, width=768, steps=100, tokens=3200, flops=1e18, memory_bytes=1e6,
    memory_profile=GPT2, seconds=60.0, timed_on_gpu=False, r_max=None, matched_ratio=None, total_flops=2e18,
    remaining_seconds=120.0, new_models=2,
)  # fmt: skip


def test_hours_of_a_planted_run() -> None:
    """1e18 FLOPs at half of 1e15 a second are 2000 seconds."""
    assert gpu_hours(1e18, GPU("", 1e15, 1.0, 1.0, 1.0), 0.5) == pytest.approx(2000 / 3600)
    assert gpu_hours(0.0, H100, 0.0) == 0
    assert configuration_gpu_hours(COST, H100) == pytest.approx(2e18 / (989e12 * 0.4) / 3600, rel=0.01)
    assert configuration_gpu_hours(replace(COST, timed_on_gpu=True), H100) == pytest.approx(2 * 60 / 3600), (
        "steps that were timed come first"
    )
    assert configuration_gpu_hours(replace(COST, width=0, total_flops=0.0), H100) == 0


def test_the_utilisation_is_the_published_one_where_there_is_one() -> None:
    small = flops_per_token(ModelConfig.gpt2(12, 12, 768, max_seq_len=1024), 50257, 1024)
    large = flops_per_token(ModelConfig.gpt2(48, 25, 1600, max_seq_len=1024), 50257, 1024)
    assert mfu(H100, 768) == pytest.approx(10e9 / 2700 / 8 * small / 989e12, rel=0.005)
    assert mfu(A100, 768) == pytest.approx(524_288 / 0.3 / 8 * small / 312e12, rel=0.005)
    assert mfu(H100, 1600) == pytest.approx(1_048_576 / 2.8 / 8 * large / 989e12, rel=0.01)
    assert mfu(H100, HALF_EFFICIENCY_WIDTH) == pytest.approx(mfu(H100, 10**9) / 2, rel=1e-6)
    shares = [mfu(A100, width) for width in (16, 64, 256, 1024, 4096)]
    assert shares == sorted(shares) and 0 < shares[0] < 0.1 and shares[-1] < 1


def test_the_fewest_gpus_whole_models_first() -> None:
    assert (one := find_placement(GPT2, H100)) is not None and (one.num_gpus, one.sharded) == (1, False)
    wide = replace(GPT2, batch_size=1536)  # 157 GB of activations
    assert (four := find_placement(wide, H100)) is not None and (four.num_gpus, four.sharded) == (4, False)
    assert four.bytes_per_gpu == bytes_per_device(wide, 4) <= 72e9 < bytes_per_device(wide, 2)
    deep = replace(GPT2, parameters=7_000_000_000, layers=32, batch_size=8)  # 126 GB of state
    assert (shards := find_placement(deep, H100)) is not None and shards.sharded and bytes_per_device(deep, 8) > 80e9
    assert find_placement(replace(GPT2, parameters=10**12), H100) is None
    crowded = replace(GPT2, parameters=4_200_000_000, batch_size=64, seq_len=1, activation_bytes_per_token=1.0)
    assert (parts := find_placement(crowded, H100)) is not None and (parts.num_gpus, parts.sharded) == (2, True)
    assert (
        odd := find_placement(replace(wide, batch_size=96, activation_bytes_per_token=1.6e6), H100)
    ) is not None and 96 % odd.num_gpus == 0


def test_storage_of_a_planted_model(tmp_path: Path) -> None:
    assert disk.model_bytes(124_000_000) == 496_000_000
    assert disk.checkpoint_bytes(124_000_000) == 2 * 12 * 124_000_000, "the old one goes when the new one is whole"
    assert disk.run_folder_bytes(1000, 0) == 2 * 100 * 130 + 8000
    table = tmp_path / "01_x" / "laptop" / "table.csv"
    table.parent.mkdir(parents=True)
    table.write_text("run,loss\na,1\na,2\nb,3\n")
    assert disk.measure_row_bytes(tmp_path, "01_x") == table.stat().st_size / 2
    assert disk.measure_row_bytes(tmp_path, "02_y") == disk.DEFAULT_ROW_BYTES
    table.write_text("run,loss\n" + "a" * 200_000)  # csv refuses such a cell
    assert disk.measure_row_bytes(tmp_path, "01_x") == disk.DEFAULT_ROW_BYTES


@pytest.mark.parametrize("mixer", ["attention", *sorted(installed_mixers())])
def test_sizes_from_one_block_are_those_of_the_whole(mixer: str) -> None:
    plain = ModelConfig(3, 4, 32, mixer=mixer, positions="none")
    switched = [
        {},
        {"tie_embeddings": False},
        {"mlp": "swiglu"},
        {"mlp": "none"},
        {"n_experts": 4, "top_k": 2},
        {"canon": "AC"},
    ]
    for changes in switched + [{"positions": "learned"}, {"positions": "relative"}] * (mixer == "attention"):
        config = replace(plain, **changes)
        model = meta_model(config, 11)
        assert size_of(config, 11).total == count_parameters(model)["total"], changes
        used = config.top_k / max(config.n_experts, 1)
        matrices = sum(
            p.numel() * (used if ".experts." in name else 1)
            for name, p in model.blocks.named_parameters()
            if p.ndim > 1 and ".distance" not in name
        )
        assert size_of(config, 11).multiplied == matrices + 11 * 32, changes


def test_a_sum_adds_hours_and_disk_and_takes_the_largest_memory(tmp_path: Path) -> None:
    one = summarize_costs("01_a", "paper", [COST], H100, tmp_path)
    assert one.flops == 2e18 and one.assumed_mfu_hours == pytest.approx(2e18 / (0.3 * 989e12) / 3600)
    assert (
        one.models_bytes == 2 * 4000
        and one.checkpoints_bytes == 24_000
        and one.single_gpu_bytes == bytes_per_device(GPT2)
    )
    assert one.folders_bytes == 2 * (disk.run_folder_bytes(100, disk.DEFAULT_ROW_BYTES) + disk.DEFAULT_ROW_BYTES)
    lines = summary_table([one, replace(one, name="02_b", single_gpu_bytes=99e9, runs=5)]).splitlines()
    assert len({len(line) for line in lines}) == 1, "columns are straight"
    assert lines[-1].split()[:5] == ["all", "paper", "7", "4.00e+18", f"{2 * one.published_rate_hours:.3g}"]
    assert "99GB" in lines[-1] and "16kB" in lines[-1] and "24kB" in lines[-1]


def test_costs_in_print() -> None:
    text = cost_table("01_a", "paper", [COST, replace(COST, memory_profile=None)], 2, H100)
    assert "1 x 8.79GB" in text and "2.81 GPU hours" in text.splitlines()[-1]
    assert "too large" in cost_table("x", "paper", [replace(COST, memory_profile=replace(GPT2, parameters=10**13))], 2)
    for gpu in GPUS.values():
        assert gpu.name in assumptions(gpu, False) and "measured: steps timed" in assumptions(gpu, True)
        assert all(len(line) <= 120 for line in assumptions(gpu, False).splitlines())


@pytest.mark.parametrize("experiment", discover(), ids=lambda experiment: experiment.name)
def test_every_experiment_has_a_cost(experiment: Experiment, tmp_path: Path) -> None:
    longest = {"smoke": 1, "paper": 1e6}  # GPU hours; `make test` counts the other scales
    for scale in longest:
        one = summarize_costs(experiment.name, scale, estimate_costs(experiment.runs(scale), tmp_path), H100, tmp_path)
        assert 0 < one.published_rate_hours < longest[scale] and one.assumed_mfu_hours > 0 and one.max_gpus >= 1, scale
        assert (
            one.models_bytes > 0
            and one.checkpoints_bytes > 0
            and one.folders_bytes > 0
            and one.sharded_gpu_bytes <= one.node_gpu_bytes <= 72e9
        )


def test_a_model_is_counted_once_over_experiments(tmp_path: Path) -> None:
    runs = discover()[0].runs("smoke")
    seen: set = set()
    first, again = estimate_costs(runs, tmp_path, counted=seen), estimate_costs(runs, tmp_path, counted=seen)
    assert sum(cost.new_models for cost in first) == len({cost.label for cost in first}) and not any(
        cost.new_models for cost in again
    )
    assert all(0 < b.total_flops < a.total_flops for a, b in zip(first, again, strict=True)), (
        "evaluations are done twice"
    )
