"""The gated delta rule (Gated DeltaNet, arXiv 2412.06464): forward and backward pass, tokens/s.

The chunked form and the CPU kernel for small states, against the recurrence token by token and then, on one thread at
the size of laptop experiments, against softmax attention of the same width.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import threads
from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from lm.ops.chunked_delta_rule import chunk_gated_delta_rule, l2_normalize
from lm.ops.cpu_attention import block_attention
from lm.ops.cpu_delta_rule import cpu_gated_delta_rule
from lm.ops.gated_delta_rule import naive_gated_delta_rule

BAR = 10.0  # times the recurrence, at 512 tokens
HEADS = 4
IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {"chunks": chunk_gated_delta_rule, "lanes": cpu_gated_delta_rule}


def inputs(batch: int, length: int, width: int) -> list[Tensor]:
    """Random inputs of the rule in a layer of this width: q, k, v, log decays and beta."""
    random = torch.Generator().manual_seed(0)
    key, value = int(0.75 * width) // HEADS, int(1.5 * width) // HEADS
    q, k = (l2_normalize(torch.randn(batch, length, HEADS, key, generator=random)) for _ in range(2))
    v = torch.randn(batch, length, HEADS, value, generator=random)
    a, b = torch.randn(2, batch, length, HEADS, generator=random)
    return [x.requires_grad_() for x in (q, k, v, -torch.nn.functional.softplus(a), b.sigmoid())]


def forward_backward(rule: Callable[..., Any], terms: list[Tensor]) -> float:
    """Run the forward pass and all gradients; return the number of tokens."""
    out = rule(*terms)
    torch.autograd.grad((out if isinstance(out, Tensor) else out[0]).sum(), terms)
    return terms[0].shape[0] * terms[0].shape[1]


def run(quick: bool) -> Iterator[Row]:
    """Both implementations against the recurrence, then against attention."""
    rounds = 2 if quick else ROUNDS
    batch, length = (1, 16) if quick else (4, 512)
    with threads(1 if quick else 2):
        for name, rule in IMPLEMENTATIONS.items():
            terms = inputs(batch, length, 64)
            case = f"width 64, {batch} x {length}, {name}"
            yield _case(case, rule, terms, "token by token", naive_gated_delta_rule, terms, rounds, bar=BAR)
    batch, length = (1, 16) if quick else (64, 128)
    qkv = torch.randn(batch, length, 3 * HEADS, 64 // HEADS, requires_grad=True)
    with threads(1):
        attention = partial(block_attention, mask=None, angles=None)
        for name, rule in IMPLEMENTATIONS.items():
            case, terms = f"width 64, {batch} x {length}, {name} beside attention", inputs(batch, length, 64)
            yield _case(case, rule, terms, "softmax attention", attention, [qkv], rounds)


def _case(
    case: str, rule: Any, terms: list[Tensor], peer: str, other: Any, theirs: list[Tensor], rounds: int, **more: Any
) -> Row:
    sides = rate_of(lambda: forward_backward(rule, terms)), rate_of(lambda: forward_backward(other, theirs))
    mine, slower = measure_in_turns(*sides, rounds=rounds)
    return compare(case, "tokens/s", mine, peer, slower, threads=torch.get_num_threads(), **more)
