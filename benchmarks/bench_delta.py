"""The gated delta rule of Gated DeltaNet (arXiv 2412.06464): forward and backward, tokens/s.

In chunks, and in lanes where states are small, against the recurrence token by token as it is written; then, at the
size of laptop experiments and one thread, against the softmax attention of a model of the same width.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import threads
from benchmarks.timing import ROUNDS, Row, compared, interleaved, timed
from lm.ops.cpu_attention import block_attention
from lm.ops.cpu_delta_rule import in_lanes
from lm.ops.gated_delta_rule import in_chunks, one_by_one, unit

BAR = 10.0  # times the recurrence, at 512 tokens
HEADS = 4
WAYS: dict[str, Callable[..., Any]] = {"chunks": in_chunks, "lanes": in_lanes}


def inputs(batch: int, length: int, width: int) -> list[Tensor]:
    """What the rule of a layer of this width is given: q, k, v, logarithms of decays, rates."""
    random = torch.Generator().manual_seed(0)
    key, value = int(0.75 * width) // HEADS, int(1.5 * width) // HEADS
    q, k = (unit(torch.randn(batch, length, HEADS, key, generator=random)) for _ in range(2))
    v = torch.randn(batch, length, HEADS, value, generator=random)
    a, b = torch.randn(2, batch, length, HEADS, generator=random)
    return [x.requires_grad_() for x in (q, k, v, -torch.nn.functional.softplus(a), b.sigmoid())]


def both_ways(way: Callable[..., Any], given: list[Tensor]) -> float:
    """Forward and all gradients; how many tokens that was."""
    out = way(*given)
    torch.autograd.grad((out if isinstance(out, Tensor) else out[0]).sum(), given)
    return given[0].shape[0] * given[0].shape[1]


def run(quick: bool) -> Iterator[Row]:
    """Both ways against the recurrence, then the lanes against attention."""
    rounds = 2 if quick else ROUNDS
    batch, length = (1, 16) if quick else (4, 512)
    with threads(1 if quick else 2):
        for name, way in WAYS.items():
            given = inputs(batch, length, 64)
            case = f"width 64, {batch} x {length}, {name}"
            yield _case(case, way, given, "token by token", one_by_one, given, rounds, bar=BAR)
    batch, length = (1, 16) if quick else (64, 128)
    qkv = torch.randn(batch, length, 3 * HEADS, 64 // HEADS, requires_grad=True)
    with threads(1):
        attention = partial(block_attention, mask=None, angles=None)
        for name, way in WAYS.items():
            case, given = f"width 64, {batch} x {length}, {name} beside attention", inputs(batch, length, 64)
            yield _case(case, way, given, "softmax attention", attention, [qkv], rounds)


def _case(
    case: str, way: Any, given: list[Tensor], peer: str, other: Any, theirs: list[Tensor], rounds: int, **more: Any
) -> Row:
    sides = timed(lambda: both_ways(way, given)), timed(lambda: both_ways(other, theirs))
    mine, slower = interleaved(*sides, rounds=rounds)
    return compared(case, "tokens/s", mine, peer, slower, threads=torch.get_num_threads(), **more)
