"""What costs look like in print: a table for each experiment and scale, the sums over all, and what was assumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.experiment import Experiment
from experiments.harness.planning.cost import Cost, Seen, costs
from experiments.harness.planning.disk import checkpoint_bytes, folder_bytes, model_bytes, row_bytes
from experiments.harness.planning.gpu import (
    GPT2_WIDTH,
    GPU,
    GPUS,
    STATED,
    USABLE,
    gpu_hours,
    memory,
    place,
    utilisation,
)
from experiments.harness.run import SCALES
from probing.capacity.planner_report import duration, short

NODE = 8  # GPUs of the node whose memory is shown beside one GPU's


@dataclass(frozen=True)
class Bill:
    """Of one experiment at one scale, every model counted where it is first trained.

    published, stated: GPU hours by published throughput (or steps timed on a GPU here) and at the stated utilisation;
    gpus: the most that a training takes to fit, infinite where one does not; one, node, sharded: bytes on one GPU, and
    on each of eight with the model whole or in shards, of the largest training; disk in bytes: models, the checkpoints
    of one training at their peak, and the folders of runs with the table.
    """

    name: str
    scale: str
    runs: int
    flops: float
    published: float
    stated: float
    gpus: float
    one: float
    node: float
    sharded: float
    models: float
    checkpoints: float
    folders: float


def hours(cost: Cost, gpu: GPU) -> float:
    """GPU hours of all runs of a configuration: by steps timed on a GPU of this machine, else by published rates."""
    if cost.on_gpu and cost.flops:
        return cost.seconds * cost.all_flops / cost.flops / 3600
    return gpu_hours(cost.all_flops, gpu, utilisation(gpu, cost.width)) if cost.width else 0.0


def bill(name: str, scale: str, found: Sequence[Cost], gpu: GPU, results: Path) -> Bill:
    """The sum of an experiment's costs; results: the folder of its committed tables, whose rows are measured."""
    loads = [cost.load for cost in found if cost.load]
    placed = [place(load, gpu) for load in loads]
    row = row_bytes(results, name)
    runs = sum(cost.runs for cost in found)
    return Bill(
        name=name,
        scale=scale,
        runs=runs,
        flops=sum(cost.all_flops for cost in found),
        published=sum(hours(cost, gpu) for cost in found),
        stated=sum(gpu_hours(cost.all_flops, gpu, STATED) for cost in found),
        gpus=max((each.gpus if each else math.inf for each in placed), default=0),
        one=max(map(memory, loads), default=0.0),
        node=max((memory(load, NODE) for load in loads), default=0.0),
        sharded=max((memory(load, NODE, sharded=True) for load in loads), default=0.0),
        models=sum(cost.models * model_bytes(cost.parameters) for cost in found),
        checkpoints=max((checkpoint_bytes(cost.parameters) for cost in found if cost.steps), default=0),
        folders=sum(cost.runs * (folder_bytes(cost.steps, row) + row) for cost in found),
    )


def report(name: str, scale: str, found: Sequence[Cost], jobs: int, gpu: GPU = GPUS["h100"]) -> str:
    """The dry run's table, and the expected time of all runs in `jobs` processes and on GPUs."""
    columns: dict[str, list[str]] = {
        "configuration": [cost.label for cost in found],
        "runs": [str(cost.runs) for cost in found],
        "done": [str(cost.finished) for cost in found],
        "parameters": [short(cost.parameters) for cost in found],
        "steps": [short(cost.steps) for cost in found],
        "tokens": [short(cost.tokens) for cost in found],
        "FLOPs": [f"{cost.flops:.2e}" for cost in found],
        "memory": [short(cost.memory) + "B" for cost in found],
    }
    if any(cost.matched is not None for cost in found):
        columns["of base"] = ["-" if cost.matched is None else f"{cost.matched:.2%}" for cost in found]
    if any(cost.r_max is not None for cost in found):
        columns["R_max"] = ["-" if cost.r_max is None else f"{cost.r_max:.3g}" for cost in found]
    columns["time each"] = [duration(cost.seconds) for cost in found]
    columns["GPUs"] = [_placed(cost, gpu) for cost in found]
    columns["GPU hours"] = [_hours(hours(cost, gpu)) for cost in found]
    flops, all_hours = sum(cost.all_flops for cost in found), sum(hours(cost, gpu) for cost in found)
    total = f"all: {flops:.2e} FLOPs, {_hours(all_hours)} GPU hours, {_time_left(found, jobs)}"
    return "\n".join([f"{name} at scale {scale}", *_lines(columns), total])


def summary(bills: Sequence[Bill]) -> str:
    """A line for every experiment and scale, and their sums: hours and disk add up, memory is that of the largest."""
    rows: list[Bill] = []
    for scale in SCALES:
        these = [each for each in bills if each.scale == scale]
        rows += these + ([_sum(these)] if len(these) > 1 else [])
    return "\n".join(
        _lines(
            {
                "experiment": [each.name for each in rows],
                "scale": [each.scale for each in rows],
                "runs": [str(each.runs) for each in rows],
                "FLOPs": [f"{each.flops:.2e}" for each in rows],
                "GPU hours": [_hours(each.published) for each in rows],
                f"at {STATED:.0%}": [_hours(each.stated) for each in rows],
                "GPUs": ["too large" if math.isinf(each.gpus) else str(each.gpus or "-") for each in rows],
                "one GPU": [short(each.one) + "B" for each in rows],
                f"each of {NODE}": [short(each.node) + "B" for each in rows],
                "sharded": [short(each.sharded) + "B" for each in rows],
                "models": [short(each.models) + "B" for each in rows],
                "checkpoints": [short(each.checkpoints) + "B" for each in rows],
                "runs, tables": [short(each.folders) + "B" for each in rows],
            }
        )
    )


def assumptions(gpu: GPU, timed: bool) -> str:
    """What the prices rest on, and which part of it was measured; timed: steps were, on a GPU of this machine."""
    at_64, published, at_1280 = (f"{utilisation(gpu, width):.0%}" for width in (64, GPT2_WIDTH, 1280))
    indent, usable = "\n" + " " * 15, f"{USABLE:.0%} of {short(gpu.memory)}B"
    reached = f"{published} of its {gpu.peak / 1e12:.0f} dense bf16 TFLOP/s (llm.c, public)"
    by = (
        "measured: steps timed on this machine's GPU"
        if timed
        else f"assumed, as no committed table comes from a GPU: one {gpu.name} trains GPT-2 124M on {short(gpu.gpt2)}"
        f"{indent}tokens/s, {reached}; other widths by D / (D + h), {at_64} at"
        f"{indent}64 and {at_1280} at 1280; h from GPT-2 124M and 1558M; below 768 it is extrapolated"
    )
    return f"""what this rests on
  GPU hours    {by}
  at {STATED:.0%}       assumed: the same FLOPs at this share of the peak, as nanoGPT in plain PyTorch (public)
  FLOPs        counted: 6 for each multiplied parameter, 12 L D T for attention (PaLM); every mixer taken to be as
               efficient as attention. Evaluations by tokens, as forward passes, though writing token by token takes
               longer; quantization is not counted. A model is counted in the first experiment that trains it
  GPU memory   assumed: 16 bytes a parameter (fp32 weights, gradients, Adam), 2 for bf16 copies, 4 for data parallel;
               activations in bf16, counted from small uncompiled models; {usable} usable. GPUs: the
               fewest that hold it; each of {NODE}: data parallel; sharded: over {NODE}, with two layers gathered
  disk         counted: 4 bytes a parameter of a kept model, 24 of one in training (the peak of one; for several at
               once add theirs), 260 for each tenth step; a run's rows measured in the committed tables
  this machine memory in fp32; time each and time left by its measured matrix products and lm/throughput.py"""


def _sum(bills: Sequence[Bill]) -> Bill:
    def total(field: str) -> float:
        return sum(getattr(each, field) for each in bills)

    def most(field: str) -> float:
        return max(getattr(each, field) for each in bills)

    sums = {field: total(field) for field in ("runs", "flops", "published", "stated", "models", "folders")}
    mosts = {field: most(field) for field in ("gpus", "one", "node", "sharded", "checkpoints")}
    return Bill(name="all", scale=bills[0].scale, **sums, **mosts)  # type: ignore[arg-type]


def _placed(cost: Cost, gpu: GPU) -> str:
    """How many GPUs hold a training and the bytes on each, such as 2 x 41GB."""
    if cost.load is None:
        return "-"
    placed = place(cost.load, gpu)
    return f"{placed.gpus} x {short(placed.bytes)}B{' sharded' * placed.sharded}" if placed else "too large"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _lines(columns: dict[str, list[str]]) -> list[str]:
    """A table with its first column to the left and the others to the right."""
    padded = []
    for number, (head, cells) in enumerate(columns.items()):
        width = max(map(len, [head, *cells]))
        padded.append([cell.rjust(width) if number else cell.ljust(width) for cell in (head, *cells)])
    return ["  ".join(line) for line in zip(*padded, strict=True)]


def _time_left(found: Sequence[Cost], jobs: int) -> str:
    """On this machine, with no more processes than runs are left, and never less than the longest run takes."""
    left = [cost for cost in found if cost.runs > cost.finished]
    if not left:
        return "nothing left to do"
    jobs = min(jobs, sum(cost.runs - cost.finished for cost in left))
    longest = max(min(cost.seconds, cost.left) for cost in left)
    seconds = max(sum(cost.left for cost in left) / jobs, longest)
    return f"about {duration(seconds)} left on this machine with {jobs} process{'es' * (jobs > 1)} at a time"


def print_bills(
    experiments: Sequence[Experiment],
    scales: Sequence[str],
    root: Path,
    results: Path,
    gpu: GPU,
    jobs: int,
    seeds: int | None = None,
    measure: bool = False,
) -> None:
    """Print the report of each experiment and scale, the sums, and what was assumed. root, results: as for runs."""
    bills, timed = [], False
    seen: dict[str, Seen] = {scale: set() for scale in scales}
    for experiment in experiments:
        for scale in scales:
            if runs := experiment.runs(scale, seeds):
                found = costs(runs, root, measure, seen[scale])
                timed = timed or any(cost.on_gpu for cost in found)
                bills.append(bill(experiment.name, scale, found, gpu, results))
                print(report(experiment.name, scale, found, jobs, gpu), end="\n\n")
    if bills:
        print(summary(bills), assumptions(gpu, timed), sep="\n\n")
