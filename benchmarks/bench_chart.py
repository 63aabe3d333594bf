"""Membership and parse counts (Physics of Language Models, Part 1, section 4), against nltk's Earley parser."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from synth.cfg import Grammar, count_parses, load, sample
from synth.cfg.formats import to_nltk

BARS = {"cfg3f": 5000.0, "cfg3b": None}  # sentences/s


def parser(grammar: Grammar) -> Any:
    """nltk's Earley parser of a grammar."""
    from nltk.parse import EarleyChartParser

    return EarleyChartParser(to_nltk(grammar, probabilities=False))


def parses(earley: Any, sentence: list[str]) -> int:
    """Number of parse trees that nltk finds; 0 if the sentence is not in the language."""
    return sum(1 for _ in earley.parse(sentence))


def sentences_of_mean_length(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray, n: int) -> list[np.ndarray]:
    """The n sentences of lengths nearest to the mean, as a fair sample for a slow peer."""
    nearest = np.argsort(np.abs(np.diff(offsets) - grammar.mean_length), kind="stable")[:n]
    return [tokens[offsets[i] : offsets[i + 1]] for i in nearest]


def run(quick: bool) -> Iterator[Row]:
    """Sentences/s of two grammars: ours on all sentences, the peer on a few of mean length."""
    count, few, rounds = (50, 1, 2) if quick else (1000, 3, ROUNDS)
    for name, bar in BARS.items():
        grammar = load(name)
        tokens, offsets, _ = sample(grammar, np.random.default_rng(0), count)
        sides = (
            rate_of(_ours(grammar, tokens, offsets)),
            rate_of(_theirs(grammar, sentences_of_mean_length(grammar, tokens, offsets, few))),
        )
        ours, theirs = measure_in_turns(*sides, rounds=rounds)
        case = f"{name}, membership and parse count"
        peer = "nltk EarleyChartParser"
        yield compare(case, "sentences/s", ours, peer, theirs, threads=1, bar=bar, bar_on="value")


def _ours(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray) -> Any:
    return lambda: len(count_parses(grammar, tokens, offsets))


def _theirs(grammar: Grammar, sentences: list[np.ndarray]) -> Any:
    earley, words = parser(grammar), [grammar.decode(sentence) for sentence in sentences]
    return lambda: sum(parses(earley, sentence) > 0 for sentence in words)
