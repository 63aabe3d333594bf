"""Exact next-token distributions after every prefix (Physics of Language Models, Part 1, Figure 4 right).

No public package computes them, so the peer is our own reference for tests: the definitions as dense numpy matrices.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.bench_chart import typical
from benchmarks.timing import ROUNDS, Row, compared, interleaved, timed
from synth.cfg import Grammar, load, next_token, sample
from synth.cfg.oracles import naive


def run(quick: bool) -> Iterator[Row]:
    """Sentences/s of cfg3f: all rows of whole sentences."""
    count, few, rounds = (20, 1, 2) if quick else (500, 2, ROUNDS)
    grammar = load("cfg3f")
    tokens, offsets, _ = sample(grammar, np.random.default_rng(0), count)
    sides = timed(_ours(grammar, tokens, offsets)), timed(_theirs(grammar, typical(grammar, tokens, offsets, few)))
    ours, theirs = interleaved(*sides, rounds=rounds)
    peer = "our own dense numpy reference (no public one exists)"
    case = "cfg3f, rows of whole sentences"
    yield compared(case, "sentences/s", ours, peer, theirs, threads=1, bar=200.0, bar_on="value")


def _ours(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray) -> Any:
    return lambda: len(offsets) - 1 if len(next_token(grammar, tokens, offsets)) else 0


def _theirs(grammar: Grammar, sentences: list[np.ndarray]) -> Any:
    return lambda: sum(len(naive.next_token(grammar, sentence)) > 0 for sentence in sentences)
