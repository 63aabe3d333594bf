"""Training on the CFG task (Physics of Language Models, Part 1, section 4), against transformers.Trainer.

Ours is lm.train with its defaults, which generates data while it trains. The peer has the same model, batch, clipping
and precision, windows made beforehand, sdpa attention and fused AdamW, without logging, saving and worker processes.
The first steps are not timed. With CUDA, GPU cases replace the CPU cases; CUDA_VISIBLE_DEVICES= hides it.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.peers import SIZES, TASK, model_of, threads, to_peer
from benchmarks.timing import ROUNDS, RateFunction, Row, compare, measure_in_turns
from lm.config import TrainConfig
from lm.model import Decoder
from lm.model_size import flops_per_token
from lm.training.loop import train
from synth.corpus import Corpus

BARS = {"0.1M": 1.4, "0.8M": 1.2}  # GPT-2, tokens/s against the peer's
GPU_SIZES = {"1M": (5, 128, 4), "25M": (8, 512, 8)}  # layers, width, heads
SHARE = 0.75  # of the FLOP/s of torch.mm, at 0.8M
PEER = "transformers.Trainer"
# transformers has no rotary GPT-2, so the papers' GPT_rot is held against the GPT-2 with learned positions it has
PEERS = {"gpt2": "gpt2", "gpt2 rotary": "gpt2", "llama": "llama"}


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


def ours(make: Callable[[], Decoder], load: TrainingJob) -> float:
    """Tokens/s of lm.training.loop."""
    config = TrainConfig(steps=load.steps, batch_size=load.batch, seq_len=load.window)
    history = train(make(), TASK, config, data_seed=0, log_every=load.warm, on_step=lambda *_: None)
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


def run(quick: bool) -> Iterator[Row]:
    """Tokens/s of GPT-2 and LLaMA at two sizes, and model FLOP/s of the larger GPT-2 against torch.mm."""
    if torch.cuda.is_available():
        yield from _gpu_cases(quick)
        return
    print("training: no CUDA device here, so the GPU cases are left out", file=sys.stderr)
    rounds = 2 if quick else ROUNDS
    with threads(1 if quick else 2):
        for flavour, other in PEERS.items():
            for size, (layers, width) in SIZES.items():
                for load in [TrainingJob(2, 32, 1, 2)] if quick else [TrainingJob(16, 512), TrainingJob(32, 256)]:
                    bar = BARS[size] if other == "gpt2" else None
                    make = _maker(flavour, layers, width, 4, load.window)
                    peer = _maker(other, layers, width, 4, load.window)
                    share = SHARE if (flavour, size) == ("gpt2", "0.8M") else None
                    yield from _case(f"{flavour} {size}", make, peer, load, rounds, bar, share, 64 if quick else 2048)


def _maker(flavour: str, layers: int, width: int, heads: int, window: int) -> Callable[[], Decoder]:
    return lambda: model_of(flavour, layers, width, window, heads)


def _gpu_cases(quick: bool) -> Iterator[Row]:
    for size, (layers, width, heads) in GPU_SIZES.items():
        load = TrainingJob(4, 64, 2, 4) if quick else TrainingJob(96, 512, 20, 60)
        make = _maker("gpt2", layers, width, heads, load.window)
        yield from _case(f"gpt2 {size}", make, make, load, 2 if quick else 5, None, 0.0, 256 if quick else 8192)


def _case(
    name: str,
    make: Callable[[], Decoder],
    make_peer: Callable[[], Decoder],
    load: TrainingJob,
    rounds: int,
    bar: float | None,
    share: float | None,
    mm: int,
) -> Iterator[Row]:
    """Tokens/s and, unless `share` (the bar; 0: none) is None, model FLOP/s against torch.mm.

    FLOPs are those of lm.model_size, where every position attends to all T (the convention of the bar), and again with
    the T/2 of a causal model, since code that skips the other half could exceed the rate of the machine.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    data = windows(load)
    sides = [lambda: ours(make, load), lambda: theirs(make_peer, load, data)]
    if share is not None:
        sides.append(matmul(mm, device, kind))
    rates = measure_in_turns(*sides, rounds=rounds)
    about: dict[str, Any] = {"threads": torch.get_num_threads(), "device": device}
    where = f"{name}, {load.batch} x {load.window}"
    yield compare(where, "tokens/s", rates[0], PEER, rates[1], bar=bar, **about)
    if share is None:
        return
    model = make()
    best = [rate / 1e9 for rate in rates[2]]
    peer = f"torch.mm {mm}x{mm} {str(kind).removeprefix('torch.')}"
    for formula, context, target in (("6P + 12LDT", load.window, share), ("6P + 6LDT", load.window // 2, 0.0)):
        flops = flops_per_token(model.config, model.vocab_size, context) / 1e9
        done = [rate * flops for rate in rates[0]]
        yield compare(f"{where}, {formula}", "GFLOP/s", done, peer, best, bar=target or None, **about)
