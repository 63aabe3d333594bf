"""What a GPU gives, in ten minutes: `python -m benchmarks.gpu`.

Training of a GPT-2 of 124M parameters and of one of 5M, in bf16, compiled or not, with document masks, with
checkpointed activations, and in fp32 with and without TF32; and sampling. Each case takes some steps that are not timed
(they compile), then as many as fit its seconds. The rows are printed and kept in results/benchmarks/gpu.csv: tokens/s,
the share of the bf16 rate of a large product that model FLOPs (6 P + 12 L D T a token) make, and the peak of
memory. `--quick` runs every case for a moment at toy sizes, on a CPU too, and keeps nothing.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import tyro

from benchmarks.bench_training import matmul, synchronize
from benchmarks.peers import TASK
from benchmarks.report import FOLDER, machine
from experiments.harness.atomic_io import write_text
from lm.config import ModelConfig, TrainConfig
from lm.inference.sampling import generate, no_progress
from lm.model import build
from lm.model_size import flops_per_token
from lm.training.loop import train
from synth.commands.command_line import guarded, parse
from synth.errors import UserError

MODELS = {
    "124M": (ModelConfig.gpt2(12, 12, 768, max_seq_len=1024), 32, 1024),
    "5M": (ModelConfig.gpt2(6, 8, 256), 96, 512),
}
TOY = {"toy": (ModelConfig.gpt2(1, 2, 16, max_seq_len=32), 4, 32)}
CASES: dict[str, dict[str, Any]] = {
    "bf16": {"compile": False},
    "bf16, compiled": {"compile": True},
    "bf16, compiled, document masks": {"compile": True, "document_mask": True},
    "bf16, compiled, checkpointed activations": {"compile": True, "checkpoint_activations": True},
    "fp32": {"compile": True, "precision": "fp32"},
    "fp32 with TF32": {"compile": True, "precision": "fp32"},
}
WARM_STEPS, TIMED_STEPS, QUICK_STEPS = 20, 60, 2


@dataclass
class Gpu:
    """What a GPU gives: training and sampling in ten minutes."""

    quick: bool = False
    """toy sizes, on a CPU too: shows that it runs, not how fast"""

    def run(self) -> None:
        if not torch.cuda.is_available() and not self.quick:
            raise UserError("no GPU here; give --quick to see that everything runs, at toy sizes")
        rows = []
        for row in measure(self.quick):
            print(
                ", ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{value}" for key, value in row.items()
                )
            )
            rows.append(row)
        if not self.quick:
            import pandas

            table = pandas.DataFrame([{**row, **machine()} for row in rows])
            write_text(FOLDER / "gpu.csv", table.to_csv(index=False, lineterminator="\n"))


def measure(quick: bool) -> Iterator[dict[str, Any]]:
    """One row per model and case."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    product = matmul(128 if quick else 8192, device, torch.bfloat16)
    best = max(product() for _ in range(10))
    for size, (model, batch, window) in (TOY if quick else MODELS).items():
        for name, settings in CASES.items():
            if quick and settings["compile"]:
                settings = {**settings, "compile": False}  # minutes on a CPU
            steps = (1, 1 + QUICK_STEPS) if quick else (WARM_STEPS, WARM_STEPS + TIMED_STEPS)
            config = TrainConfig(steps=steps[1], batch_size=batch, seq_len=window, **settings)
            with _tf32(name.endswith("TF32")):
                rate = _training_rate(model, config, steps[0])
            share = rate * flops_per_token(model, TASK.vocab().size, window) / best
            yield {"model": size, "case": name, "tokens/s": rate, "share of torch.mm": share, "peak MB": _peak_memory()}
        yield {"model": size, "case": "sampling, 256 sequences", "tokens/s": _sampling_rate(model, 4 if quick else 256)}


def _training_rate(model: ModelConfig, config: TrainConfig, warm: int) -> float:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    history = train(build(model, TASK.vocab().size, seed=0), TASK, config, 0, log_every=warm, on_step=lambda *_: None)
    first, last = history[0], history[-1]
    return (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])


def _sampling_rate(model: ModelConfig, sequences: int) -> float:
    decoder = build(model, TASK.vocab().size, seed=0)
    decoder = decoder.to("cuda") if torch.cuda.is_available() else decoder
    length = min(128, model.max_seq_len - 1)
    rates = []
    for _ in range(2):  # the first warms up
        begin = time.perf_counter()
        drawn = generate(decoder, [[TASK.vocab().bos]] * sequences, length, progress=no_progress)
        synchronize()
        rates.append(sum(map(len, drawn)) / (time.perf_counter() - begin))
    return rates[-1]


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _peak_memory() -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0


def main() -> None:
    """Run the command line; bad input ends it with one line and status 2."""
    options = {"description": __doc__, "config": (tyro.conf.FlagCreatePairsOff,)}
    if status := guarded(lambda: parse(Gpu, "python -m benchmarks.gpu", None, **options).run(), "nothing was written"):
        sys.exit(status)


if __name__ == "__main__":
    main()
