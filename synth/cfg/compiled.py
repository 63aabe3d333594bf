"""A grammar as integer arrays: its rules for the sampler, and a trie of right-hand sides per level for the oracles."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Compiled(NamedTuple):
    """Arrays of a grammar with L + 1 levels, R rules and Q trie states.

    Symbols are numbered level by level from 0, the root; `local` below is the number within the level. A trie state is
    a common prefix of right-hand sides of one level, so that equal prefixes are matched once.
    """

    level_first: np.ndarray  # (L+1,) number of each level's first symbol
    rule_first: np.ndarray  # (nonterminals+1,) rules of symbol s are rule_first[s] : rule_first[s+1]
    rhs_first: np.ndarray  # (R+1,) right-hand side of rule r is rhs[rhs_first[r] : rhs_first[r+1]]
    rhs: np.ndarray  # symbol numbers
    even: np.ndarray  # (nonterminals,) whether the rules of s are equally probable
    below: np.ndarray  # (R,) sum of the probabilities of this rule and of those before it
    log_weight: np.ndarray  # (R,) natural log of the rule's probability
    state_first: np.ndarray  # (L,) first trie state of each nonterminal level, which is its empty state
    step: np.ndarray  # (Q, widest level) state after one more child (local), or -1
    parent: np.ndarray  # (Q,) the state that it extends, -1 for an empty state
    incoming: np.ndarray  # (Q,) the child (local) that led to it
    child_first: np.ndarray  # (Q,) states that extend q are child_first[q] : child_last[q]
    child_last: np.ndarray  # (Q,)
    done_first: np.ndarray  # (Q+1,) rules that end at state q are done_first[q] : done_first[q+1]
    done_symbol: np.ndarray  # (R,) left-hand side (local) of such a rule
    done_log: np.ndarray  # (R,) natural log of its probability
    longest: np.ndarray  # (L,) most terminals below one symbol of a level, at most 2**31 - 1


def compile_grammar(
    levels: Sequence[Sequence[str]],
    rules: Mapping[str, Sequence[Sequence[str]]],
    weights: Mapping[str, Sequence[float]],
) -> Compiled:
    """The arrays of a validated grammar."""
    number = {symbol: n for n, symbol in enumerate(symbol for symbols in levels for symbol in symbols)}
    flat = [(symbol, rhs, w) for symbol in rules for rhs, w in zip(rules[symbol], weights[symbol], strict=True)]
    logs = np.log([w for _, _, w in flat])
    return Compiled(
        _starts(map(len, levels)),
        _starts(len(rules[symbol]) for symbol in rules),
        _starts(len(rhs) for _, rhs, _ in flat),
        np.array([number[child] for _, rhs, _ in flat for child in rhs], np.int32),
        np.array([len(set(weights[symbol])) == 1 for symbol in rules]),
        np.concatenate([np.cumsum(weights[symbol]) for symbol in rules]),
        logs,
        **_tries(levels, rules, weights),
        longest=_longest(levels, rules),
    )


def _starts(sizes) -> np.ndarray:
    return np.cumsum([0, *sizes]).astype(np.int32)


def _tries(levels, rules, weights) -> dict[str, np.ndarray]:
    """The trie arrays, breadth first: the states that extend a state are contiguous and come after it."""
    widest = max(map(len, levels))
    steps: list[np.ndarray] = []
    states: list[tuple[int, int]] = []
    child_first, child_last, done, done_first, state_first = [], [], [], [0], []
    for parents, children in zip(levels, levels[1:], strict=False):
        local = {symbol: n for n, symbol in enumerate(children)}
        members = [
            (tuple(local[child] for child in rhs), n, w)
            for n, symbol in enumerate(parents)
            for rhs, w in zip(rules[symbol], weights[symbol], strict=True)
        ]
        state_first.append(len(states))
        states.append((-1, -1))
        waiting = [(0, members)]
        for depth, members in waiting:
            step, here = np.full(widest, -1, np.int32), len(steps)
            child_first.append(len(states))
            done += [(n, w) for rhs, n, w in members if len(rhs) == depth]
            done_first.append(len(done))
            for child in sorted({rhs[depth] for rhs, _, _ in members if len(rhs) > depth}):
                step[child] = len(states)
                states.append((here, child))
                waiting.append((depth + 1, [m for m in members if len(m[0]) > depth and m[0][depth] == child]))
            child_last.append(len(states))
            steps.append(step)
    return dict(
        state_first=np.array([*state_first, len(states)], np.int32),
        step=np.array(steps),
        parent=np.array([parent for parent, _ in states], np.int32),
        incoming=np.array([child for _, child in states], np.int32),
        child_first=np.array(child_first, np.int32),
        child_last=np.array(child_last, np.int32),
        done_first=np.array(done_first, np.int32),
        done_symbol=np.array([n for n, _ in done], np.int32),
        done_log=np.log([w for _, w in done]),
    )


def _longest(levels, rules) -> np.ndarray:
    most = dict.fromkeys(levels[-1], 1)
    for symbol in reversed(rules):
        most[symbol] = max(sum(most[child] for child in rhs) for rhs in rules[symbol])
    return np.array([min(max(most[s] for s in symbols), 2**31 - 1) for symbols in levels], np.int32)
