"""What can be known of a parse tree: exact posteriors of the ancestors and the terminal of every position.

Ceilings for the probes and encoders of Part 1 (arXiv 2305.13673, Figures 5 to 7): no reader of a sentence, or of its
prefix, can name the ancestors of a position more often than the most probable of them is right.

Evidence about the terminal at a position is a row of K weights: proportional to the probability of what was seen if
the terminal is k. One 1 and else 0: the terminal is known; all 1: a wildcard, as under <mask>; other weights: noise.

The chart of a symbol is a matrix, [i, j] the probability that it derives what was seen from i to j, and a rule
A -> B C adds the product of the matrices of B and C to A's. Behind a prefix lies one more place, which every terminal
leads to and stays at, so that whatever may follow is summed. The posteriors are derivatives of the log of the root's
entry, taken backwards through the products (the outside algorithm).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from synth.cfg.grammar import Grammar
from synth.cfg.oracles.ragged import validate_batch
from synth.errors import UserError

MAX_NUMBERS = 1 << 25  # of the matrices of a chunk: 256 MiB
Charts = dict[str, np.ndarray]  # by symbol, (B, T+1, T+1)


@dataclass(frozen=True)
class Posterior:
    """ancestors (N, L, S): probability of each symbol of each level above a position, the root's level first and the
    terminals' last; 0 beyond the symbols of a level, NaN at positions of sentences that the evidence excludes. ends (N,
    L, S): the same where also the symbol's subtree ends at the position; its sum over S is the probability of an end.
    log (n,): natural log of the probability of the evidence on each whole sentence, -inf where it is excluded."""

    ancestors: np.ndarray
    ends: np.ndarray
    log: np.ndarray


def one_hot_evidence(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (N, K) of known terminals: tokens (N,), offsets (n+1,), and the offsets. Raises UserError on a foreign
    token."""
    tokens, offsets = validate_batch(grammar, tokens, offsets)
    return np.eye(len(grammar.terminals))[tokens], offsets


def posterior(grammar: Grammar, evidence: ArrayLike, offsets: ArrayLike, prefix: bool = False) -> Posterior:
    """The posterior of the ancestors of every position, given evidence (N, K) on whole sentences, or (prefix) on the
    positions up to and including its own, whatever follows.

    Raises UserError for evidence of another number of terminals, negative or not finite.
    """
    given, bounds = _check(grammar, evidence, offsets)
    largest = given.max(1, initial=0)  # weights count up to a factor, which is taken out against underflow
    weights = given / np.where(largest > 0, largest, 1)[:, None]
    widest = max(map(len, grammar.levels))
    found = np.full((2, len(weights), grammar.depth, widest), np.nan)
    log = np.full(len(bounds) - 1, -np.inf)
    for first, lengths in _chunks(grammar, bounds, prefix):
        emissions = _pad(weights, bounds[first], lengths)
        log_values, spans = _span_posteriors(grammar, emissions, lengths, prefix)
        for row, (start, length) in enumerate(zip(bounds[first], lengths, strict=True)):
            place = slice(start + length - 1, start + length) if prefix else slice(start, start + length)
            if np.isfinite(log_values[row]):
                of_row = {name: table[row] for name, table in spans.items()}
                found[:, place] = _ancestors_and_ends(grammar, of_row, length, prefix)
        if prefix:
            continue
        log[first] = log_values
    log = posterior_log(grammar, weights, bounds) if prefix else log
    factors = np.concatenate([[0.0], np.cumsum(np.log(np.where(largest > 0, largest, 1)))])
    return Posterior(found[0], found[1], log + np.diff(factors[bounds]))


def posterior_log(grammar: Grammar, evidence: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Natural log (n,) of the probability of evidence (N, K) on whole sentences."""
    log = np.full(len(offsets) - 1, -np.inf)
    for first, lengths in _chunks(grammar, offsets, prefix=False):
        charts = _inside(grammar, _pad(evidence, offsets[first], lengths), lengths, prefix=False)
        with np.errstate(divide="ignore"):
            log[first] = np.log(charts[grammar.root][np.arange(len(first)), 0, lengths])
    return log


def _check(grammar: Grammar, evidence: ArrayLike, offsets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    weights, bounds = np.asarray(evidence, np.float64), np.asarray(offsets, np.int64)
    if weights.ndim != 2 or weights.shape[1] != len(grammar.terminals):
        raise UserError(
            f"evidence of shape {weights.shape} must have a row of {len(grammar.terminals)} weights a position, for "
            f"each terminal of {grammar.name}"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise UserError("evidence must be weights of at least 0, and finite")
    if bounds.ndim != 1 or not len(bounds) or bounds[0] or bounds[-1] != len(weights) or (np.diff(bounds) < 0).any():
        raise UserError(f"offsets must rise from 0 to the number of positions, {len(weights)}")
    return weights, bounds


def _chunks(grammar: Grammar, offsets: np.ndarray, prefix: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of sentences (B,) and how many of their positions are read (B,): all of them, or every prefix by itself;
    together what has similar lengths and fits memory."""
    lengths = np.diff(offsets)
    items = [(length, i) for i, whole in enumerate(lengths) for length in (range(1, whole + 1) if prefix else [whole])]
    items = sorted(item for item in items if item[0])
    symbols, done = sum(map(len, grammar.levels)), 0
    while done < len(items):
        size = 1
        while done + size < len(items) and (size + 1) * symbols * (items[done + size][0] + 2) ** 2 <= MAX_NUMBERS:
            size += 1
        read, first = np.array(items[done : done + size]).T
        yield first, read
        done += size


def _pad(evidence: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Evidence (B, T, K) on the first `lengths` positions of each sentence, 0 behind them."""
    inside = np.arange(lengths.max()) < lengths[:, None]
    places = np.where(inside, starts[:, None] + np.arange(lengths.max()), 0)
    return evidence[places] * inside[..., None]


def _inside(grammar: Grammar, emissions: np.ndarray, lengths: np.ndarray, prefix: bool) -> Charts:
    """The charts of all symbols."""
    rows, length = emissions.shape[:2]
    charts, steps, every = {}, np.arange(length), np.arange(rows)
    for number, terminal in enumerate(grammar.terminals):
        charts[terminal] = np.zeros((rows, length + 1 + prefix, length + 1 + prefix))
        charts[terminal][:, steps, steps + 1] = emissions[:, :, number]
        if prefix:
            charts[terminal][every, lengths, lengths + 1] = charts[terminal][every, lengths + 1, lengths + 1] = 1.0
    for symbol in reversed(grammar.rules):
        charts[symbol] = np.zeros_like(charts[grammar.terminals[0]])
        for rhs, weight in zip(grammar.rules[symbol], grammar.weights[symbol], strict=True):
            charts[symbol] += weight * _products(charts, rhs)[-1]
    return charts


def _products(charts: Charts, rhs: tuple[str, ...]) -> list[np.ndarray]:
    """The products of the charts of the first child, of the first two, ... and of all."""
    found = [charts[rhs[0]]]
    for child in rhs[1:]:
        found.append(found[-1] @ charts[child])
    return found


def _span_posteriors(
    grammar: Grammar, emissions: np.ndarray, lengths: np.ndarray, prefix: bool
) -> tuple[np.ndarray, Charts]:
    """Log of the probability of the evidence (B,), and by symbol the probability (B, T+1, T+1) that it stands above
    exactly the positions from i to j; in prefixes (B, T+2, T+2), of which the place behind stands for all that
    follows."""
    charts, rows = _inside(grammar, emissions, lengths, prefix), np.arange(len(lengths))
    final = (lengths, lengths + 1) if prefix else (lengths,)
    value = sum(charts[grammar.root][rows, 0, place] for place in final)
    slopes = {symbol: np.zeros_like(chart) for symbol, chart in charts.items()}
    with np.errstate(divide="ignore"):
        for place in final:
            slopes[grammar.root][rows, 0, place] = np.where(value > 0, 1 / np.where(value > 0, value, 1), 0)
        log = np.log(value)
    for symbol in grammar.rules:  # parents before children
        for rhs, weight in zip(grammar.rules[symbol], grammar.weights[symbol], strict=True):
            products, slope = _products(charts, rhs), weight * slopes[symbol]
            for k in range(len(rhs) - 1, 0, -1):
                slopes[rhs[k]] += products[k - 1].swapaxes(1, 2) @ slope
                slope = slope @ charts[rhs[k]].swapaxes(1, 2)
            slopes[rhs[0]] += slope
    return log, {symbol: chart * slopes[symbol] for symbol, chart in charts.items()}


def _ancestors_and_ends(grammar: Grammar, spans: Charts, length: int, prefix: bool) -> np.ndarray:
    """Probabilities (2, T, L, S) of the ancestors of the positions of one sentence, and of those that end there; or (2,
    1, L, S) of the last position of a prefix; from the probabilities of spans."""
    found = np.zeros((2, 1 if prefix else length, grammar.depth, max(map(len, grammar.levels))))
    for level, symbols in enumerate(grammar.levels):
        for number, symbol in enumerate(symbols):
            table = spans[symbol][: length + 1 + prefix, : length + 1 + prefix]
            if prefix:  # what begins before the last place and ends there, or behind it, holds the last position
                found[:, 0, level, number] = table[:length, length:].sum(), table[:length, length].sum()
            else:
                begun = table.cumsum(0)  # [p, j]: spans that begin at p or before
                found[0, :, level, number] = begun.sum(1)[:length] - np.tril(begun)[:length].sum(1)
                found[1, :, level, number] = begun.diagonal(1)
    return found
