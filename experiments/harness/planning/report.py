"""Costs in print: a table for each experiment and scale, the sums over all, and the assumptions behind them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.experiment import Experiment
from experiments.harness.planning.cost import Cost, CountedModels, estimate_costs
from experiments.harness.planning.disk import checkpoint_bytes, measure_row_bytes, model_bytes, run_folder_bytes
from experiments.harness.planning.gpu_hours import (
    ASSUMED_MFU,
    GPT2_WIDTH,
    GPU,
    GPUS,
    USABLE_MEMORY,
    find_placement,
    gpu_hours,
    mfu,
)
from experiments.harness.run import SCALES
from lm.memory import bytes_per_device
from probing.text import align_rows, format_duration, format_number

GPUS_PER_NODE = 8  # GPUs of the node whose memory is shown beside one GPU's


@dataclass(frozen=True)
class CostSummary:
    """The cost of one experiment at one scale, every model counted where it is first trained.

    published_rate_hours: GPU hours by published throughput, or by steps timed on a GPU here; assumed_mfu_hours: at
    ASSUMED_MFU; max_gpus: the most that a training needs to fit, infinite if one does not. single_gpu_bytes,
    node_gpu_bytes, sharded_gpu_bytes: of the largest training on one GPU, and on each of GPUS_PER_NODE with the model
    whole or in shards. Disk: all models, the checkpoints of one training at their peak, and the runs' folders with the
    table.
    """

    name: str
    scale: str
    runs: int
    flops: float
    published_rate_hours: float
    assumed_mfu_hours: float
    max_gpus: float
    single_gpu_bytes: float
    node_gpu_bytes: float
    sharded_gpu_bytes: float
    models_bytes: float
    checkpoints_bytes: float
    folders_bytes: float


def configuration_gpu_hours(cost: Cost, gpu: GPU) -> float:
    """GPU hours of all runs of a configuration, from steps timed on a GPU of this machine or else published rates."""
    if cost.timed_on_gpu and cost.flops:
        return cost.seconds * cost.total_flops / cost.flops / 3600
    return gpu_hours(cost.total_flops, gpu, mfu(gpu, cost.width)) if cost.width else 0.0


def summarize_costs(name: str, scale: str, costs: Sequence[Cost], gpu: GPU, results_dir: Path) -> CostSummary:
    """The sum of an experiment's costs; results_dir: of the committed tables, whose rows are measured."""
    profiles = [cost.memory_profile for cost in costs if cost.memory_profile]
    placements = [find_placement(profile, gpu) for profile in profiles]
    row_bytes = measure_row_bytes(results_dir, name)
    return CostSummary(
        name=name,
        scale=scale,
        runs=sum(cost.runs for cost in costs),
        flops=sum(cost.total_flops for cost in costs),
        published_rate_hours=sum(configuration_gpu_hours(cost, gpu) for cost in costs),
        assumed_mfu_hours=sum(gpu_hours(cost.total_flops, gpu, ASSUMED_MFU) for cost in costs),
        max_gpus=max((each.num_gpus if each else math.inf for each in placements), default=0),
        single_gpu_bytes=max(map(bytes_per_device, profiles), default=0.0),
        node_gpu_bytes=max((bytes_per_device(each, GPUS_PER_NODE) for each in profiles), default=0.0),
        sharded_gpu_bytes=max((bytes_per_device(each, GPUS_PER_NODE, sharded=True) for each in profiles), default=0.0),
        models_bytes=sum(cost.new_models * model_bytes(cost.parameters) for cost in costs),
        checkpoints_bytes=max((checkpoint_bytes(cost.parameters) for cost in costs if cost.steps), default=0),
        folders_bytes=sum(cost.runs * (run_folder_bytes(cost.steps, row_bytes) + row_bytes) for cost in costs),
    )


def cost_table(name: str, scale: str, costs: Sequence[Cost], jobs: int, gpu: GPU = GPUS["h100"]) -> str:
    """The dry run's table, and the expected time of all runs in `jobs` processes and on such GPUs."""
    columns: dict[str, list[str]] = {
        "configuration": [cost.label for cost in costs],
        "runs": [str(cost.runs) for cost in costs],
        "done": [str(cost.finished) for cost in costs],
        "parameters": [format_number(cost.parameters) for cost in costs],
        "steps": [format_number(cost.steps) for cost in costs],
        "tokens": [format_number(cost.tokens) for cost in costs],
        "FLOPs": [f"{cost.flops:.2e}" for cost in costs],
        "memory": [format_number(cost.memory_bytes) + "B" for cost in costs],
    }
    if any(cost.matched_ratio is not None for cost in costs):
        columns["of base"] = ["-" if cost.matched_ratio is None else f"{cost.matched_ratio:.2%}" for cost in costs]
    if any(cost.r_max is not None for cost in costs):
        columns["R_max"] = ["-" if cost.r_max is None else f"{cost.r_max:.3g}" for cost in costs]
    columns["time each"] = [format_duration(cost.seconds) for cost in costs]
    columns["GPUs"] = [_placement_cell(cost, gpu) for cost in costs]
    columns["GPU hours"] = [_format_hours(configuration_gpu_hours(cost, gpu)) for cost in costs]
    flops = sum(cost.total_flops for cost in costs)
    all_hours = sum(configuration_gpu_hours(cost, gpu) for cost in costs)
    total = f"all: {flops:.2e} FLOPs, {_format_hours(all_hours)} GPU hours, {_time_left(costs, jobs)}"
    return "\n".join([f"{name} at scale {scale}", *_align_columns(columns), total])


def summary_table(summaries: Sequence[CostSummary]) -> str:
    """A line for every experiment and scale, and one for all experiments of a scale."""
    rows: list[CostSummary] = []
    for scale in SCALES:
        same_scale = [each for each in summaries if each.scale == scale]
        rows += same_scale + ([_total(same_scale)] if len(same_scale) > 1 else [])
    columns = {
        "experiment": [each.name for each in rows],
        "scale": [each.scale for each in rows],
        "runs": [str(each.runs) for each in rows],
        "FLOPs": [f"{each.flops:.2e}" for each in rows],
        "GPU hours": [_format_hours(each.published_rate_hours) for each in rows],
        f"at {ASSUMED_MFU:.0%}": [_format_hours(each.assumed_mfu_hours) for each in rows],
        "GPUs": ["too large" if math.isinf(each.max_gpus) else str(each.max_gpus or "-") for each in rows],
    }
    heads = ("one GPU", f"each of {GPUS_PER_NODE}", "sharded", "models", "checkpoints", "runs, tables")
    for head, field in zip(heads, BYTES, strict=True):
        columns[head] = [format_number(getattr(each, field)) + "B" for each in rows]
    return "\n".join(_align_columns(columns))


def assumptions(gpu: GPU, timed: bool) -> str:
    """The assumptions behind the costs; timed: whether steps were timed on a GPU of this machine."""
    at_64, published, at_1280 = (f"{mfu(gpu, width):.0%}" for width in (64, GPT2_WIDTH, 1280))
    indent, usable = "\n" + " " * 15, f"{USABLE_MEMORY:.0%} of {format_number(gpu.memory_bytes)}B"
    node = GPUS_PER_NODE
    reached = f"{published} of its {gpu.peak_flops / 1e12:.0f} dense bf16 TFLOP/s (llm.c, public)"
    by = (
        "measured: steps timed on this machine's GPU"
        if timed
        else f"assumed, as no committed table comes from a GPU: one {gpu.name} trains GPT-2 124M on "
        f"{format_number(gpu.gpt2_tokens_per_second)}{indent}tokens/s, {reached}; other widths by D / (D + h), "
        f"{at_64} at{indent}64 and {at_1280} at 1280; h from GPT-2 124M and 1558M; below 768 it is extrapolated"
    )
    return f"""what this rests on
  GPU hours    {by}
  at {ASSUMED_MFU:.0%}       assumed: the same FLOPs at this share of the peak, as nanoGPT in plain PyTorch (public)
  FLOPs        counted: 6 for each multiplied parameter, 12 L D T for attention (PaLM); every mixer taken to be as
               efficient as attention. Evaluations by tokens, as forward passes, though writing token by token takes
               longer; quantization is not counted. A model is counted in the first experiment that trains it
  GPU memory   assumed: 16 bytes a parameter (fp32 weights, gradients, Adam), 2 for bf16 copies, 4 for data parallel;
               activations in bf16, counted from small uncompiled models; {usable} usable. GPUs: the
               fewest that hold it; each of {node}: data parallel; sharded: over {node}, with two layers gathered
  disk         counted: 4 bytes a parameter of a saved model, 24 of one in training (the peak of one; for several at
               once add theirs), 260 for each tenth step; a run's rows measured in the committed tables
  this machine memory in fp32; time each and time left by its measured matrix products and lm/throughput.py"""


MEMORY = ("single_gpu_bytes", "node_gpu_bytes", "sharded_gpu_bytes")
BYTES = (*MEMORY, "models_bytes", "checkpoints_bytes", "folders_bytes")
SUMMED = ("runs", "flops", "published_rate_hours", "assumed_mfu_hours", "models_bytes", "folders_bytes")
LARGEST = ("max_gpus", *MEMORY, "checkpoints_bytes")


def _total(summaries: Sequence[CostSummary]) -> CostSummary:
    """Hours and most of the disk add up; memory and checkpoints are those of the largest training."""
    numbers = {name: sum(getattr(each, name) for each in summaries) for name in SUMMED}
    numbers |= {name: max(getattr(each, name) for each in summaries) for name in LARGEST}
    return CostSummary(name="all", scale=summaries[0].scale, **numbers)


def _placement_cell(cost: Cost, gpu: GPU) -> str:
    """How many GPUs hold a training and the bytes on each, such as 2 x 41GB."""
    if cost.memory_profile is None:
        return "-"
    if (place := find_placement(cost.memory_profile, gpu)) is None:
        return "too large"
    return f"{place.num_gpus} x {format_number(place.bytes_per_gpu)}B{' sharded' * place.sharded}"


def _format_hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _align_columns(columns: dict[str, list[str]]) -> list[str]:
    """A table with its first column to the left and the others to the right."""
    return align_rows([list(columns), *map(list, zip(*columns.values(), strict=True))], left=1)


def _time_left(costs: Sequence[Cost], jobs: int) -> str:
    """On this machine, with no more processes than runs are left, and never less than the longest run takes."""
    unfinished = [cost for cost in costs if cost.runs > cost.finished]
    if not unfinished:
        return "nothing left to do"
    jobs = min(jobs, sum(cost.runs - cost.finished for cost in unfinished))
    longest = max(min(cost.seconds, cost.remaining_seconds) for cost in unfinished)
    seconds = max(sum(cost.remaining_seconds for cost in unfinished) / jobs, longest)
    return f"about {format_duration(seconds)} left on this machine with {jobs} process{'es' * (jobs > 1)} at a time"


def print_cost_report(
    experiments: Sequence[Experiment],
    scales: Sequence[str],
    runs_dir: Path,
    results_dir: Path,
    gpu: GPU,
    jobs: int,
    seeds: int | None = None,
    time_steps: bool = False,
) -> None:
    """Print the cost of each experiment and scale, the sums, and the assumptions."""
    summaries, timed = [], False
    counted: dict[str, CountedModels] = {scale: set() for scale in scales}
    for experiment in experiments:
        for scale in scales:
            if runs := experiment.runs(scale, seeds):
                costs = estimate_costs(runs, runs_dir, time_steps, counted[scale])
                timed = timed or any(cost.timed_on_gpu for cost in costs)
                summaries.append(summarize_costs(experiment.name, scale, costs, gpu, results_dir))
                print(cost_table(experiment.name, scale, costs, jobs, gpu), end="\n\n")
    if summaries:
        print(summary_table(summaries), assumptions(gpu, timed), sep="\n\n")
