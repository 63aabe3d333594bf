"""Membership, parse counts, probabilities, derivations (Physics of Language Models, Part 1, Result 1 and Figure 4)."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from synth.cfg.grammar import Grammar
from synth.cfg.oracles.chart_kernels import allocate_items, fill_chart, root_values
from synth.cfg.oracles.ragged import validate_batch

MAX_EXACT_COUNT = 2.0**53  # float64 counts whole numbers one by one up to here


def is_member(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> np.ndarray:
    """Whether (n,) each sentence of tokens (N,), offsets (n+1,) is valid. Raises UserError on a foreign token."""
    return _counts(grammar, *validate_batch(grammar, tokens, offsets)) > 0


def count_parses(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> np.ndarray:
    """Number (n,) of derivations of each sentence, exact: int64, or dtype object (Python integers) if one is larger."""
    tokens, offsets = validate_batch(grammar, tokens, offsets)
    counts = _counts(grammar, tokens, offsets)
    large = np.flatnonzero(counts >= MAX_EXACT_COUNT)
    if not large.size:
        return counts.astype(np.int64)
    exact = [int(count) if count < MAX_EXACT_COUNT else 0 for count in counts]
    for i in large:
        exact[i] = _count_exactly(grammar, tokens[offsets[i] : offsets[i + 1]])
    return np.array(exact, np.int64 if max(exact) < 2**63 else object)


def log_probability(grammar: Grammar, tokens: ArrayLike, offsets: ArrayLike) -> np.ndarray:
    """Natural log (n,) of each sentence's probability, summed over its derivations; -inf where it has none."""
    tokens, offsets = validate_batch(grammar, tokens, offsets)
    log_weight = grammar.compiled.done_log
    values, exact = root_values(tokens, offsets, grammar.compiled, np.exp(log_weight), False)
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    for i in np.flatnonzero(~exact):
        one = tokens[offsets[i] : offsets[i + 1]]
        logs[i] = root_values(one, np.array([0, len(one)]), grammar.compiled, log_weight, True)[0][0]
    return logs


def derive(grammar: Grammar, sentence: ArrayLike) -> tuple | None:
    """One derivation of a sentence of terminal numbers (T,), or None if it has none: (symbol, child, child, ...).

    The children are derivations in turn; a terminal is its string. Where there are several derivations, it takes the
    earliest rule in the grammar's order, then the shortest leftmost children. formats.to_tree makes an nltk.Tree of it.
    """
    tokens, _ = validate_batch(grammar, sentence, [0, len(np.asarray(sentence))])
    ends = _ends(grammar, tokens)
    if len(tokens) not in ends[grammar.root, 0]:
        return None
    tree = _tree(grammar, ends, grammar.root, 0, len(tokens))
    assert isinstance(tree, tuple)  # the root is no terminal
    return tree


def _counts(grammar: Grammar, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    ones = np.ones(len(grammar.compiled.done_log))
    return root_values(tokens, offsets, grammar.compiled, ones, False)[0]


def _ends(grammar: Grammar, tokens: np.ndarray) -> dict[tuple[str, int], list[int]]:
    """Where each symbol may end, by (symbol, start), in rising order."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    if not len(tokens):
        return found
    zeros = np.zeros(len(grammar.compiled.done_log))
    first, last, ends, symbols, *_ = fill_chart(tokens, grammar.compiled, zeros, True, allocate_items(4096))
    for level, start in np.ndindex(grammar.depth, len(tokens)):
        for item in range(first[level, start], last[level, start]):
            found[grammar.levels[level][symbols[item]], start].append(int(ends[item]))
    for options in found.values():
        options.sort()
    return found


def _tree(grammar: Grammar, ends: dict[tuple[str, int], list[int]], symbol: str, start: int, stop: int) -> tuple | str:
    if symbol not in grammar.rules:
        return symbol
    rhs, cuts = next(
        (rhs, cuts) for rhs in grammar.rules[symbol] if (cuts := _cut(ends, rhs, start, stop, {})) is not None
    )
    spans = zip([start, *cuts], cuts, strict=False)
    return (symbol, *(_tree(grammar, ends, child, a, b) for child, (a, b) in zip(rhs, spans, strict=True)))


def _cut(
    ends: dict[tuple[str, int], list[int]], rhs: Sequence[str], start: int, stop: int, failed: dict
) -> list[int] | None:
    """Ends of the children when the right-hand side covers start:stop, or None; `failed` remembers dead ends."""
    if not rhs:
        return [] if start == stop else None
    if (len(rhs), start) in failed:
        return None
    for end in ends.get((rhs[0], start), ()):
        rest = _cut(ends, rhs[1:], end, stop, failed) if end <= stop else None
        if rest is not None:
            return [end, *rest]
    failed[len(rhs), start] = True
    return None


def _count_exactly(grammar: Grammar, tokens: np.ndarray) -> int:
    """The number of derivations in Python integers: slow, for counts that float64 cannot hold."""
    ends = _ends(grammar, tokens)
    counts: dict[tuple[str, int, int], int] = {(t, i, i + 1): 1 for t in grammar.terminals for i in range(len(tokens))}
    for symbol in reversed(grammar.rules):
        for start in range(len(tokens)):
            for rhs in grammar.rules[symbol]:
                partial = {start: 1}
                for child in rhs:
                    longer: dict[int, int] = defaultdict(int)
                    for middle, ways in partial.items():
                        for end in ends.get((child, middle), ()):
                            longer[end] += ways * counts[child, middle, end]
                    partial = longer
                for end, ways in partial.items():
                    counts[symbol, start, end] = counts.get((symbol, start, end), 0) + ways
    return counts[grammar.root, 0, len(tokens)]
