"""Sentences of cfg3f (Physics of Language Models, Part 1, Figure 1) against random expansion of nltk productions."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from synth.cfg import Grammar, load, sample
from synth.cfg.formats import to_nltk

BARS = {False: 10e6, True: 3e6}  # tokens/s by labels


def expand(grammar: Any, symbol: Any, chosen: random.Random) -> list[str]:
    """A random sentence of an nltk grammar, by recursive expansion."""
    if isinstance(symbol, str):
        return [symbol]
    production = chosen.choice(grammar.productions(lhs=symbol))
    return [token for child in production.rhs() for token in expand(grammar, child, chosen)]


def run(quick: bool) -> Iterator[Row]:
    """Tokens/s without and with labels; the peer never makes labels."""
    grammar = load("cfg3f")
    ours, theirs, rounds = (50, 1, 2) if quick else (8000, 40, ROUNDS)
    for labels, bar in BARS.items():
        rates = measure_in_turns(
            rate_of(_ours(grammar, ours, labels)), rate_of(_theirs(grammar, theirs)), rounds=rounds
        )
        case = f"cfg3f, labels {'on' if labels else 'off'}"
        peer = "nltk productions + random.choice, without labels"
        yield compare(case, "tokens/s", rates[0], peer, rates[1], threads=1, bar=bar, bar_on="value")


def _ours(grammar: Grammar, sentences: int, labels: bool) -> Any:
    stream = np.random.default_rng(0)
    return lambda: len(sample(grammar, stream, sentences, labels)[0])


def _theirs(grammar: Grammar, sentences: int) -> Any:
    public, stream = to_nltk(grammar, probabilities=False), random.Random(0)
    return lambda: sum(len(expand(public, public.start(), stream)) for _ in range(sentences))
