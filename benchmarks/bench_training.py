"""Training steps against transformers.Trainer, against our own plain path, and against the machine's own limit.

Ours is lm.train with its defaults, which generates data while it trains. Models of the experiments' shapes are held
against the same without compiled kernels (docs/kernels.md) on one thread, as experiments run them; larger ones against
transformers.Trainer on two. The Trainer has the same model, batch, clipping and precision, windows made beforehand,
sdpa attention and fused AdamW, without logging, saving and worker processes; transformers has no rotary GPT-2, so that
ours is held against the GPT-2 with learned positions. The machine's limit is that of benchmarks/roofline.py. The first
steps are not timed. With CUDA, GPU cases replace the CPU cases; CUDA_VISIBLE_DEVICES= hides it.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.peers import TASK, model_of, threads, to_peer
from benchmarks.roofline import least_step_seconds
from benchmarks.timing import ROUNDS, RateFunction, Row, compare, measure_in_turns
from experiments.harness.experiment import select
from lm.config import ModelConfig, TrainConfig
from lm.model import Decoder, build
from lm.model_size import flops_per_token
from lm.native.build import SWITCH
from lm.native.objective import fuse_objective
from lm.options import Precision
from lm.throughput import has_compiled_kernels
from lm.training.loop import train
from synth.corpus import Corpus
from synth.task import TrainingData

EXPERIMENTS = {"01": (32, 2.5), "15": (64, 2.0), "10": (24, 2.5)}  # width, and tokens/s against the plain path
# layers, width, heads; tokens/s against the Trainer in fp32 and with bf16 products
SHAPES: dict[str, tuple[int, int, int, float | None, float | None]] = {
    "0.1M": (2, 64, 4, 2.0, None), "0.8M": (4, 128, 4, 1.7, 2.5), "5M": (6, 256, 8, None, 3.0)
}  # fmt: skip
GPU_SIZES = {"1M": (5, 128, 4), "25M": (8, 512, 8)}  # layers, width, heads
PEER, PLAIN, LIMIT = "transformers.Trainer", "plain path", "roofline"


@dataclass(frozen=True)
class TrainingJob:
    """A training run whose first `warm` steps are not timed."""

    batch: int
    window: int
    warm: int = 2
    steps: int = 6

    @property
    def timed_tokens(self) -> int:
        """Number of trained tokens in the timed steps."""
        return (self.steps - self.warm) * self.batch * self.window


def ours(
    make: Callable[[], Decoder], load: TrainingJob, precision: Precision = "auto", task: TrainingData = TASK
) -> float:
    """Tokens/s of lm.training.loop."""
    config = TrainConfig(steps=load.steps, batch_size=load.batch, seq_len=load.window, precision=precision)
    history = train(make(), task, config, data_seed=0, log_every=load.warm, on_step=lambda *_: None)
    return load.timed_tokens / (history[-1]["seconds"] - history[0]["seconds"])


def windows(load: TrainingJob) -> list[dict[str, torch.Tensor]]:
    """Our training windows as a data set for the peer."""
    corpus = Corpus(TASK, 0, seq_len=load.window)
    batch, _ = corpus.batch(corpus.start(), load.batch * load.steps)
    return [{"input_ids": row, "labels": row} for row in torch.from_numpy(batch.inputs.astype("int64"))]


def trainer(make: Callable[[], Decoder], load: TrainingJob, data: Any, folder: str, callbacks: Any = ()) -> Any:
    """transformers.Trainer for the same job, with its fastest ordinary settings."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    cuda = torch.cuda.is_available()
    ours = TrainConfig(steps=load.steps)
    model = to_peer(make())
    model.config.use_cache = False  # else every step fills a cache that training never reads
    arguments = TrainingArguments(
        output_dir=folder, max_steps=load.steps, per_device_train_batch_size=load.batch, use_cpu=not cuda, bf16=cuda,
        learning_rate=ours.lr, adam_beta1=ours.betas[0], adam_beta2=ours.betas[1], weight_decay=ours.weight_decay,
        max_grad_norm=ours.max_grad_norm, lr_scheduler_type="linear", optim="adamw_torch_fused",
        dataloader_num_workers=0,
        dataloader_pin_memory=cuda, save_strategy="no", logging_strategy="no", eval_strategy="no", report_to=[],
        disable_tqdm=True, remove_unused_columns=False, logging_nan_inf_filter=False,
    )  # fmt: skip
    made = Trainer(model, arguments, train_dataset=data, callbacks=list(callbacks))
    made.remove_callback(PrinterCallback)  # it prints a summary among our rows
    return made


def theirs(make: Callable[[], Decoder], load: TrainingJob, data: Any) -> float:
    """Tokens/s of transformers.Trainer."""
    from transformers import TrainerCallback

    times = {}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (load.warm, load.steps):
                synchronize()
                times[state.global_step] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        trainer(make, load, data, folder, [Clock()]).train()
    return load.timed_tokens / (times[load.steps] - times[load.warm])


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul(size: int, device: str, kind: torch.dtype) -> RateFunction:
    """A measurement of FLOP/s of a large square matrix product, the best that this machine can do."""
    a, b = torch.randn(size, size, device=device, dtype=kind), torch.randn(size, size, device=device, dtype=kind)
    repeats = 1 if device == "cpu" else 50

    def side() -> float:
        synchronize()
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(a, b)
        synchronize()
        return repeats * 2 * size**3 / (time.perf_counter() - began)

    return side


@contextmanager
def without_kernels() -> Iterator[None]:
    """Train on the plain path within the block."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "0"
    try:
        yield
    finally:
        os.environ.pop(SWITCH) if before is None else os.environ.update({SWITCH: before})


def run(quick: bool) -> Iterator[Row]:
    """Tokens/s of the shapes of experiments and of three sizes of GPT-2, against what the module says."""
    if torch.cuda.is_available():
        yield from _gpu_cases(quick)
        return
    print("training: no CUDA device here, so the GPU cases are left out", file=sys.stderr)
    rounds = 2 if quick else ROUNDS
    with threads(1):
        for number, (width, bar) in EXPERIMENTS.items():
            yield from _experiment_case(number, width, bar, rounds, quick)
    with threads(1 if quick else 2):
        for size in SHAPES:
            yield from _size_case(size, rounds, quick)


def _experiment_case(number: str, width: int, bar: float, rounds: int, quick: bool) -> Iterator[Row]:
    """A training of an experiment at laptop scale against its plain path and the machine's limit."""
    runs = select([number])[0].load_module().runs("laptop")
    run = next(r for r in runs if r.train and r.model.d_model == width and has_compiled_kernels(r.model))
    vocab, training = run.model.model_vocab_size(run.task.vocab()), run.train
    steps = (1, 3) if quick else (20, 120)
    job = TrainingJob(training.batch_size, training.seq_len, *steps)

    def side() -> float:
        config = replace(training, steps=job.steps)
        history = train(build(run.model, vocab, 0), run.task, config, 0, log_every=job.warm, on_step=lambda *_: None)
        return job.timed_tokens / (history[-1]["seconds"] - history[0]["seconds"])

    def plain() -> float:
        with without_kernels():
            return side()

    fast, slow = measure_in_turns(side, plain, rounds=rounds)
    name = f"experiment {number}: {run.model.n_layers}x{width}, {job.batch} x {job.window}"
    yield compare(name, "tokens/s", fast, PLAIN, slow, threads=1, bar=bar)
    yield _limit_row(name, fast, run.model, vocab, job, threads=1)


def _size_case(size: str, rounds: int, quick: bool) -> Iterator[Row]:
    """A rotary GPT-2 in fp32 and with bf16 products against the Trainer and the machine's limit."""
    layers, width, heads, bar, bf16_bar = SHAPES[size]
    job = TrainingJob(2, 32, 1, 2) if quick else TrainingJob(16, 512)
    make, peer = (_maker(flavour, layers, width, heads, job.window) for flavour in ("gpt2 rotary", "gpt2"))
    data, about = windows(job), {"threads": torch.get_num_threads()}
    sides: list[RateFunction] = [lambda: ours(make, job), lambda: theirs(peer, job, data)]
    if fuse_objective(make()) is not None:
        sides.append(lambda: ours(make, job, "bf16-matmul"))
    fast, other, *rounded = measure_in_turns(*sides, rounds=rounds)
    name, model = f"gpt2 rotary {size}, {job.batch} x {job.window}", make()
    yield compare(name, "tokens/s", fast, PEER, other, bar=bar, **about)
    for rates in rounded:
        yield compare(f"{name}, bf16 products", "tokens/s", rates, PEER, other, bar=bf16_bar, **about)
    yield _limit_row(name, fast, model.config, model.vocab_size, job, **about)


def _limit_row(name: str, rates: list[float], config: ModelConfig, vocab: int, job: TrainingJob, threads: int) -> Row:
    best = job.batch * job.window / least_step_seconds(config, vocab, job.batch, job.window)
    return compare(f"{name}, in fp32", "tokens/s", rates, LIMIT, [best] * len(rates), threads=threads)


def _maker(flavour: str, layers: int, width: int, heads: int, window: int) -> Callable[[], Decoder]:
    return lambda: model_of(flavour, layers, width, window, heads)


def _gpu_cases(quick: bool) -> Iterator[Row]:
    for size, (layers, width, heads) in GPU_SIZES.items():
        load = TrainingJob(4, 64, 2, 4) if quick else TrainingJob(96, 512, 20, 60)
        yield from _gpu_case(size, _maker("gpt2", layers, width, heads, load.window), load, quick)


def _gpu_case(size: str, make: Callable[[], Decoder], load: TrainingJob, quick: bool) -> Iterator[Row]:
    """Tokens/s on a GPU against the Trainer, and model FLOP/s (6 P + 12 L D T a token) against torch.mm in bf16."""
    data, mm, model = windows(load), 256 if quick else 8192, make()
    sides = [lambda: ours(make, load), lambda: theirs(make, load, data), matmul(mm, "cuda", torch.bfloat16)]
    fast, other, best = measure_in_turns(*sides, rounds=2 if quick else 5)
    where, about = f"gpt2 {size}, {load.batch} x {load.window}", {"threads": 1, "device": "cuda"}
    yield compare(where, "tokens/s", fast, PEER, other, **about)
    flops = flops_per_token(model.config, model.vocab_size, load.window) / 1e9
    done, rates = [rate * flops for rate in fast], [rate / 1e9 for rate in best]
    yield compare(f"{where}, 6P + 12LDT", "GFLOP/s", done, f"torch.mm {mm}x{mm} bfloat16", rates, **about)
