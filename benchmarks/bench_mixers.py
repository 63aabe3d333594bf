"""Linear recurrences in training: the chunked form (lm/ops/chunked_recurrence.py) against a loop over the tokens.

No public package runs these on a CPU, so the peer is the reference implementation of our tests.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.peers import TASK, threads
from benchmarks.timing import ROUNDS, RateFunction, Row, compare, measure_in_turns, rate_of
from lm.config import ModelConfig
from lm.mixers.recurrent import RecurrentMixer
from lm.model import build
from lm.ops.chunked_recurrence import chunk_linear_recurrence
from lm.ops.linear_recurrence import naive_linear_recurrence

MIXERS = ("linear", "gla", "mamba2")
BAR = 10.0  # times the speed of the loop at 512 tokens on two cores
PEER = "our own loop over the tokens (no public one exists)"


def run(quick: bool) -> Iterator[Row]:
    """Tokens/s of forward and backward through the recurrence of each mixer in a model of width 64."""
    rows, length, rounds = (2, 32, 2) if quick else (8, 512, ROUNDS)
    for mixer in MIXERS:
        terms = _terms(mixer, rows, length)
        for cores in (1, 2):
            sides = _trained(chunk_linear_recurrence, terms, cores), _trained(naive_linear_recurrence, terms, cores)
            ours, theirs = measure_in_turns(*sides, rounds=rounds)
            bar = BAR if cores == 2 else None
            case = f"{mixer}, {length} tokens, {cores} thread{'s' * (cores > 1)}"
            yield compare(case, "tokens/s", ours, PEER, theirs, threads=cores, bar=bar)


def _terms(mixer: str, rows: int, length: int) -> list[Any]:
    """Inputs of the recurrence of a mixer in a fresh model with 4 heads, as leaf tensors."""
    model = build(ModelConfig(1, 4, 64, mixer=mixer), TASK.vocab().size, seed=0)
    layer: RecurrentMixer = model.blocks[0].mixer
    context = model.make_context(length)
    x = torch.randn(rows, length, 64, generator=torch.Generator().manual_seed(0))
    terms, _ = layer.project_inputs(x, lambda conv, h: h if conv is None else conv(h, context))
    return [None if term is None else term.detach().requires_grad_() for term in terms]


def _trained(form: Callable[..., Any], terms: list[Any], cores: int) -> RateFunction:
    leaves = [term for term in terms if term is not None]

    def work() -> float:
        with threads(cores):
            out, _ = form(*terms)
            torch.autograd.grad(out.square().sum(), leaves)
        return out.shape[0] * out.shape[1]

    return rate_of(work)
