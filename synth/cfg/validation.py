"""Checks of a layered grammar; each raises UserError that names the symbol and a correction."""

import math
from collections.abc import Iterable, Mapping, Sequence

from synth.cfg.notation import check_terminal
from synth.errors import UserError

Rules = Mapping[str, Sequence[Sequence[str]]]
Weights = Mapping[str, Sequence[float]]
MAX_LEVELS, MAX_SYMBOLS = 127, 32767  # limits of the compiled arrays
MAX_CYCLE_SHOWN = 12  # symbols of a cycle in a message


def format_rule(symbol: str, rhs: Sequence[str]) -> str:
    """A rule as text, such as "S -> A B"."""
    return f"{symbol} -> {' '.join(rhs)}"


def check_symbols(root: str, rules: Rules, terminals: Iterable[str]) -> None:
    """Check that every symbol is either a terminal or has rules, and that no rule is empty or repeated."""
    known = set(terminals)
    for terminal in known:
        check_terminal(terminal)
    if root not in rules:
        raise UserError(f"the root {root} has no rules; start from one of: {' '.join(rules)}")
    for symbol, alternatives in rules.items():
        if symbol in known:
            raise UserError(f"symbol {symbol} is both a terminal and a nonterminal; rename one of the two")
        if not alternatives:
            raise UserError(f"nonterminal {symbol} has no rules; add one, {symbol} -> ...")
        _check_alternatives(symbol, alternatives, rules, known)


def _check_alternatives(symbol: str, alternatives: Sequence[Sequence[str]], rules: Rules, known: set[str]) -> None:
    seen = set()
    for rhs in map(tuple, alternatives):
        if not rhs:
            raise UserError(f"a rule of {symbol} has an empty right-hand side; give it symbols or delete it")
        for child in rhs:
            if child not in rules and child not in known:
                raise UserError(
                    f"symbol {child} in {format_rule(symbol, rhs)} is undefined: it has no rules; "
                    f"add {child} -> ..., or quote it ('{child}') if it is a terminal"
                )
        if rhs in seen:
            raise UserError(f"the rule {format_rule(symbol, rhs)} is written twice; delete one")
        seen.add(rhs)


def check_cycles(rules: Rules) -> None:
    """Check that no symbol derives itself."""
    done: set[str] = set()
    for first in rules:
        path: list[tuple[str, list[str]]] = [(first, _child_nonterminals(first, rules))] if first not in done else []
        above = {first}
        while path:
            symbol, waiting = path[-1]
            if not waiting:
                done.add(symbol)
                above.discard(symbol)
                path.pop()
                continue
            child = waiting.pop()
            if child in above:
                raise _cycle([name for name, _ in path], child)
            if child not in done:
                path.append((child, _child_nonterminals(child, rules)))
                above.add(child)


def _cycle(trail: list[str], child: str) -> UserError:
    names = [*trail[trail.index(child) :], child]
    if len(names) > MAX_CYCLE_SHOWN:
        names[MAX_CYCLE_SHOWN // 2 : -MAX_CYCLE_SHOWN // 2] = [f"... {len(names) - MAX_CYCLE_SHOWN} more ..."]
    return UserError(f"the grammar has a cycle, {' -> '.join(names)}; rules must lead down from level to level")


def _child_nonterminals(symbol: str, rules: Rules) -> list[str]:
    return list({child for rhs in rules[symbol] for child in reversed(rhs) if child in rules})


def find_levels(root: str, rules: Rules, terminals: Iterable[str]) -> dict[str, int]:
    """Level of each symbol: its distance from the root or, if unreachable, one above its children."""
    level = {root: 0}
    queue = [root]
    for symbol in queue:
        for child in (child for rhs in rules.get(symbol, ()) for child in rhs):
            if child not in level:
                level[child] = level[symbol] + 1
                queue.append(child)
    waiting, last = [symbol for symbol in rules if symbol not in level], max(level.values())
    for _ in range(MAX_LEVELS):  # each round finds one more level
        waiting = [symbol for symbol in waiting if not _place(symbol, rules, level, last)]
    if waiting:
        raise _too_large()
    return level | {terminal: last for terminal in terminals if terminal not in level}


def _place(symbol: str, rules: Rules, level: dict[str, int], last: int) -> bool:
    """Set the level of an unreachable symbol, if that of a child is known; return whether it was set."""
    known = [level[child] for rhs in rules[symbol] for child in rhs if child in level]
    if known:
        level[symbol] = known[0] - 1
    elif not any(child in rules for rhs in rules[symbol] for child in rhs):
        level[symbol] = last - 1
    return symbol in level


def _too_large() -> UserError:
    most = f"{MAX_LEVELS} levels and {MAX_SYMBOLS} symbols a level"
    return UserError(f"a grammar may have at most {most}; make it smaller")


def check_reachable(root: str, rules: Rules) -> None:
    """Check that the root reaches every nonterminal."""
    reached = {root}
    queue = [root]
    for symbol in queue:
        new = {child for rhs in rules.get(symbol, ()) for child in rhs} - reached
        reached |= new
        queue.extend(new)
    for symbol in rules:
        if symbol not in reached:
            mend = f"use it, delete its rules, or say which root is meant: %start {symbol}"
            raise UserError(f"symbol {symbol} is unreachable from the root {root}; {mend}")


def check_levels(levels: Sequence[Sequence[str]]) -> None:
    """Check that there is one root, no repeated symbol, and not too many levels and symbols."""
    if len(levels) < 2 or len(levels[0]) != 1:
        raise UserError("a grammar needs one root on its first level and its terminals on a later one")
    if len(levels) > MAX_LEVELS or max(map(len, levels)) > MAX_SYMBOLS:
        raise _too_large()
    seen: set[str] = set()
    for symbol in (symbol for symbols in levels for symbol in symbols):
        if symbol in seen:
            raise UserError(f"symbol {symbol} is listed twice in the levels; give each level symbols of its own")
        seen.add(symbol)


def check_descent(level: Mapping[str, int], rules: Rules) -> None:
    """Check that every rule goes from one level (from 0) to the next and that terminals are on the last level."""
    for symbol, alternatives in rules.items():
        for rhs in alternatives:
            for child in rhs:
                if level[child] != level[symbol] + 1:
                    raise UserError(
                        f"{format_rule(symbol, rhs)} goes from level {level[symbol] + 1} to {child} on level "
                        f"{level[child] + 1}; every rule must go to the next level, {level[symbol] + 2}"
                    )
    last = max(level.values())
    for symbol, number in level.items():
        if symbol not in rules and number != last:
            raise UserError(
                f"terminal {symbol} sits on level {number + 1} but the deepest terminal on level {last + 1}; "
                "every terminal must sit on the last level: put symbols between, as in A -> B, B -> 'b'"
            )


def normalize_weights(rules: Rules, weights: Weights | None) -> dict[str, tuple[float, ...]]:
    """Probabilities of the rules by symbol, by default equal. Raises UserError unless positive with sum 1 (+-1e-5)."""
    weights = weights or {}
    return {symbol: _normalize(symbol, rhs, weights.get(symbol)) for symbol, rhs in rules.items()}


def _normalize(symbol: str, rhs: Sequence[Sequence[str]], weights: Sequence[float] | None) -> tuple[float, ...]:
    if weights is None:
        return (1 / len(rhs),) * len(rhs)
    if len(weights) != len(rhs):
        raise UserError(f"symbol {symbol} has {len(rhs)} rules but {len(weights)} probabilities; give one to each rule")
    for one, weight in zip(rhs, weights, strict=True):
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(
                f"the probability of {format_rule(symbol, one)} is {weight:g}; make it positive or drop the rule"
            )
    total = math.fsum(weights)
    if abs(total - 1) > 1e-5:
        raise UserError(f"the probabilities of the rules of {symbol} sum to {total:g}; they must sum to 1")
    # Divide only beyond rounding, so that probabilities stay bit-identical when written and read again.
    return tuple(weight / total for weight in weights) if abs(total - 1) > 1e-12 else tuple(map(float, weights))
