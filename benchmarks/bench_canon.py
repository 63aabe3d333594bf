"""Cost of Canon layers in training (Physics of Language Models, Part 4.1, section 4), against the model without.

Both sides are lm.train with its defaults on the same windows; on a GPU that is bf16 and compiled.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from benchmarks.bench_training import TrainingJob, ours
from benchmarks.peers import TASK, model_of, threads
from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns
from lm.model import Decoder, build

BARS = {"cpu": 1 / 1.10, "cuda": 1 / 1.12}  # of the rate without: at most 10 % and 12 % more time for ABCD
SETS = ("ABCD", "AC")


def model_factory(canon: str, layers: int, width: int, heads: int, window: int) -> Callable[[], Decoder]:
    """A function that builds a fresh LLaMA with these Canon layers."""
    config = replace(model_of("llama", layers, width, window, heads).config, canon=canon)
    return lambda: build(config, TASK.vocab().size, seed=0)


def run(quick: bool) -> Iterator[Row]:
    """Tokens/s with and without Canon layers, at laptop size or, with CUDA, at the size of GPU experiments."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = (2, 32, 2) if quick else (4, 64, 4) if device == "cpu" else (8, 512, 8)
    if quick:
        loads = [TrainingJob(2, 32, 1, 2)]
    elif device == "cpu":
        loads = [TrainingJob(64, 128, 1, 4), TrainingJob(16, 512, 1, 4)]
    else:
        loads = [TrainingJob(96, 512, 20, 60)]
    with threads(1):
        for load in loads:
            makers = [model_factory(canon, *shape, load.window) for canon in ("", *SETS)]
            sides = [lambda make=make, load=load: ours(make, load) for make in makers]
            plain, *others = measure_in_turns(*sides, rounds=2 if quick else ROUNDS)
            for canon, rates in zip(SETS, others, strict=True):
                bar = BARS[device] if canon == "ABCD" else None
                case = f"llama {shape[0]}x{shape[1]} Canon-{canon}, {load.batch} x {load.window}"
                yield compare(case, "tokens/s", rates, "the same without", plain, threads=1, bar=bar, device=device)
