"""Membership and number of parses of whole sentences, against nltk's Earley chart parser.

Membership is what the dynamic programming of Physics of Language Models, Part 1 (section 4) decides.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.timing import ROUNDS, Row, compared, interleaved, timed
from synth.cfg import Grammar, count_parses, load, sample
from synth.cfg.nltk_format import to_nltk

BARS = {"cfg3f": 5000.0, "cfg3b": None}  # sentences/s


def parser(grammar: Grammar) -> Any:
    """nltk's Earley parser of the same grammar."""
    from nltk.parse import EarleyChartParser

    return EarleyChartParser(to_nltk(grammar, probabilities=False))


def parses(earley: Any, sentence: list[str]) -> int:
    """How many trees nltk finds; 0 means that the sentence is not in the language."""
    return sum(1 for _ in earley.parse(sentence))


def typical(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray, n: int) -> list[np.ndarray]:
    """The n sentences whose lengths are nearest to the mean: a slow peer gets a few, and no lucky ones."""
    nearest = np.argsort(np.abs(np.diff(offsets) - grammar.mean_length), kind="stable")[:n]
    return [tokens[offsets[i] : offsets[i + 1]] for i in nearest]


def run(quick: bool) -> Iterator[Row]:
    """Sentences/s of both grammars; ours takes all sentences as they come, the peer a few of mean length."""
    count, few, rounds = (50, 1, 2) if quick else (1000, 3, ROUNDS)
    for name, bar in BARS.items():
        grammar = load(name)
        tokens, offsets, _ = sample(grammar, np.random.default_rng(0), count)
        sides = timed(_ours(grammar, tokens, offsets)), timed(_theirs(grammar, typical(grammar, tokens, offsets, few)))
        ours, theirs = interleaved(*sides, rounds=rounds)
        case = f"{name}, membership and parse count"
        peer = "nltk EarleyChartParser"
        yield compared(case, "sentences/s", ours, peer, theirs, threads=1, bar=bar, bar_on="value")


def _ours(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray) -> Any:
    return lambda: len(count_parses(grammar, tokens, offsets))


def _theirs(grammar: Grammar, sentences: list[np.ndarray]) -> Any:
    earley, words = parser(grammar), [grammar.decode(sentence) for sentence in sentences]
    return lambda: sum(parses(earley, sentence) > 0 for sentence in words)
