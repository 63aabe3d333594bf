"""Many small models at once (lm.ensemble.train_many), against training them one by one (lm.train).

Ours is the harness on a CPU: two processes of one thread, each training half of the models as one group. The peers
train the same models one by one, in one process with all threads, and in two processes of one thread each. With CUDA
all is in one process. Processes, kernels and worlds are made in the warm-up.
"""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from benchmarks.peers import TASK, model_of, threads
from benchmarks.timing import ROUNDS, RateFunction, Row, compare, measure_in_turns
from lm.config import TrainConfig
from lm.ensemble.train_many import train_many
from lm.training.loop import train

SIZES = {"20K": (2, 32), "0.1M": (2, 64)}  # layers, width
BARS = {"20K": 2.0, "0.1M": 1.3}  # at 8 x 64, against all threads in turn
GPU_SIZES = {"1M": (5, 128)}
PROCESSES = 2
TOKENS = 30720  # per model and round
Job = tuple[int, int, int, int, int]  # layers, width, batch, window, steps


def work(layers: int, width: int, batch: int, window: int, steps: int, seeds: range, at_once: bool) -> int:
    """Train one rotary model per seed; return the number of tokens."""
    models = [model_of("gpt2 rotary", layers, width, window) for _ in seeds]
    config = TrainConfig(steps=steps, batch_size=batch, seq_len=window)
    if at_once:
        train_many(models, [TASK] * len(models), [config] * len(models), seeds, log_every=steps)
    else:
        for model, seed in zip(models, seeds, strict=True):
            train(model, TASK, config, seed, log_every=steps, on_step=lambda *_: None)
    return steps * batch * window * len(seeds)


def rate_in_process(job: Job, models: int, at_once: bool) -> RateFunction:
    """A measurement of tokens/s in this process."""

    def side() -> float:
        began = time.perf_counter()
        return work(*job, range(models), at_once) / (time.perf_counter() - began)

    return side


def rate_in_pool(pool: ProcessPoolExecutor, job: Job, models: int, at_once: bool) -> RateFunction:
    """A measurement of tokens/s in the pool, each process with its part of the models."""
    parts = [range(k, models, PROCESSES) for k in range(PROCESSES)]

    def side() -> float:
        began = time.perf_counter()
        futures = [pool.submit(work, *job, part, at_once) for part in parts]
        return sum(future.result() for future in futures) / (time.perf_counter() - began)

    return side


def run(quick: bool) -> Iterator[Row]:
    """Tokens/s at two sizes and two batch shapes, on a GPU at one size."""
    if torch.cuda.is_available():
        for size, (layers, width) in GPU_SIZES.items():
            yield from _case(size, (layers, width, 16, 128, 4 if quick else 300), 4 if quick else 16, quick, 5.0)
        return
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(PROCESSES, context, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        threads(1 if quick else PROCESSES),
    ):
        for size, (layers, width) in SIZES.items():
            for batch, window in [(2, 32)] if quick else [(8, 64), (16, 128)]:
                job = layers, width, batch, window, 2 if quick else TOKENS // (batch * window)
                yield from _case(size, job, 4 if quick else 16, quick, BARS[size] if batch == 8 else None, pool)


def _case(
    size: str,
    job: Job,
    models: int,
    quick: bool,
    bar: float | None,
    pool: ProcessPoolExecutor | None = None,
) -> Iterator[Row]:
    sides = [rate_in_process(job, models, True), rate_in_process(job, models, False)]
    if pool is not None:
        sides = [rate_in_pool(pool, job, models, True), sides[1], rate_in_pool(pool, job, models, False)]
    ours, in_turn, *rest = measure_in_turns(*sides, rounds=2 if quick else ROUNDS)
    case = f"{models} of {size}, {job[2]} x {job[3]}"
    about: dict[str, Any] = {"threads": PROCESSES if pool else 1, "device": "cpu" if pool else "cuda"}
    yield compare(case, "tokens/s", ours, "lm.train in turn", in_turn, bar=bar, **about)
    for rates in rest:
        peer = f"lm.train in {PROCESSES} processes"
        yield compare(f"{case}, beside processes", "tokens/s", ours, peer, rates, **about)
