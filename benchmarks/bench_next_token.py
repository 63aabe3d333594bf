"""Exact next-token distributions after every prefix (Physics of Language Models, Part 1, Figure 4 right).

No public package computes them, so the peer is the reference implementation of our tests, with dense numpy matrices.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.bench_chart import sentences_of_mean_length
from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from synth.cfg import Grammar, load, next_token, sample
from synth.cfg.oracles import naive


def run(quick: bool) -> Iterator[Row]:
    """Sentences/s of cfg3f, with the distributions after all prefixes."""
    count, few, rounds = (20, 1, 2) if quick else (500, 2, ROUNDS)
    grammar = load("cfg3f")
    tokens, offsets, _ = sample(grammar, np.random.default_rng(0), count)
    sides = (
        rate_of(_ours(grammar, tokens, offsets)),
        rate_of(_theirs(grammar, sentences_of_mean_length(grammar, tokens, offsets, few))),
    )
    ours, theirs = measure_in_turns(*sides, rounds=rounds)
    peer = "our own dense numpy reference (no public one exists)"
    case = "cfg3f, rows of whole sentences"
    yield compare(case, "sentences/s", ours, peer, theirs, threads=1, bar=200.0, bar_on="value")


def _ours(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray) -> Any:
    return lambda: len(offsets) - 1 if len(next_token(grammar, tokens, offsets)) else 0


def _theirs(grammar: Grammar, sentences: list[np.ndarray]) -> Any:
    return lambda: sum(len(naive.next_token(grammar, sentence)) > 0 for sentence in sentences)
