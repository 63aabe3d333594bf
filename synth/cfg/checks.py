"""What must hold of a layered grammar; each failure is one line that names the symbol and the mend."""

import math
from collections.abc import Iterable, Mapping, Sequence

from synth.errors import UserError

Rules = Mapping[str, Sequence[Sequence[str]]]
Weights = Mapping[str, Sequence[float]]


def show(symbol: str, rhs: Sequence[str]) -> str:
    return f"{symbol} -> {' '.join(rhs)}"


def check_symbols(root: str, rules: Rules, terminals: Iterable[str]) -> None:
    """Every symbol is either a terminal or has rules, and no rule is empty or written twice."""
    known = set(terminals)
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
                    f"symbol {child} in {show(symbol, rhs)} is undefined: it has no rules; "
                    f"add {child} -> ..., or quote it ('{child}') if it is a terminal"
                )
        if rhs in seen:
            raise UserError(f"the rule {show(symbol, rhs)} is written twice; delete one")
        seen.add(rhs)


def check_cycles(rules: Rules) -> None:
    """Raises UserError naming the first cycle: a layered grammar never comes back to a symbol."""
    done: set[str] = set()
    for first in rules:
        path: list[tuple[str, list[str]]] = [(first, _below(first, rules))] if first not in done else []
        while path:
            symbol, waiting = path[-1]
            if not waiting:
                done.add(symbol)
                path.pop()
                continue
            child = waiting.pop()
            trail = [name for name, _ in path]
            if child in trail:
                cycle = " -> ".join([*trail[trail.index(child) :], child])
                raise UserError(f"the grammar has a cycle, {cycle}; rules must lead down from level to level")
            if child not in done:
                path.append((child, _below(child, rules)))


def _below(symbol: str, rules: Rules) -> list[str]:
    return list({child for rhs in rules[symbol] for child in reversed(rhs) if child in rules})


def find_levels(root: str, rules: Rules, terminals: Iterable[str]) -> dict[str, int]:
    """Level of every symbol: its distance from the root, or, where the root never arrives, from its own children."""
    level = {root: 0}
    queue = [root]
    for symbol in queue:
        for child in (child for rhs in rules.get(symbol, ()) for child in rhs):
            if child not in level:
                level[child] = level[symbol] + 1
                queue.append(child)
    waiting = [symbol for symbol in rules if symbol not in level]
    while waiting:
        symbol = waiting.pop(0)
        known = [level[child] for rhs in rules[symbol] for child in rhs if child in level]
        if known:
            level[symbol] = known[0] - 1
        elif any(child in rules for rhs in rules[symbol] for child in rhs):
            waiting.append(symbol)
        else:
            level[symbol] = max(level.values()) - 1
    last = max(level.values())
    return level | {terminal: last for terminal in terminals if terminal not in level}


def check_reachable(root: str, rules: Rules) -> None:
    reached = {root}
    queue = [root]
    for symbol in queue:
        new = {child for rhs in rules.get(symbol, ()) for child in rhs} - reached
        reached |= new
        queue.extend(new)
    for symbol in rules:
        if symbol not in reached:
            raise UserError(f"symbol {symbol} is unreachable from the root {root}; use it or delete its rules")


def check_levels(levels: Sequence[Sequence[str]]) -> None:
    """One root, and no symbol twice."""
    if len(levels) < 2 or len(levels[0]) != 1:
        raise UserError("a grammar needs one root on its first level and its terminals on a later one")
    if len(levels) > 127 or max(map(len, levels)) > 32767:
        raise UserError("a grammar may have at most 127 levels and 32767 symbols a level; make it smaller")
    seen: set[str] = set()
    for symbol in (symbol for symbols in levels for symbol in symbols):
        if symbol in seen:
            raise UserError(f"symbol {symbol} is listed twice in the levels; give each level symbols of its own")
        seen.add(symbol)


def check_descent(level: Mapping[str, int], rules: Rules) -> None:
    """Every rule goes from one level to the next and the terminals are the last level. Levels count from 1 in words."""
    for symbol, alternatives in rules.items():
        for rhs in alternatives:
            for child in rhs:
                if level[child] != level[symbol] + 1:
                    raise UserError(
                        f"{show(symbol, rhs)} goes from level {level[symbol] + 1} to {child} on level "
                        f"{level[child] + 1}; every rule must go to the next level, {level[symbol] + 2}"
                    )
    last = max(level.values())
    for symbol, number in level.items():
        if symbol not in rules and number != last:
            raise UserError(
                f"terminal {symbol} sits on level {number + 1} but the deepest terminal on level {last + 1}; "
                "every terminal must sit on the last level: put symbols between, as in A -> B, B -> 'b'"
            )


def checked_weights(rules: Rules, weights: Weights | None) -> dict[str, tuple[float, ...]]:
    """Probabilities of each symbol's rules: equal ones by default, else positive numbers whose sum must be 1."""
    weights = weights or {}
    return {symbol: _checked(symbol, rhs, weights.get(symbol)) for symbol, rhs in rules.items()}


def _checked(symbol: str, rhs: Sequence[Sequence[str]], given: Sequence[float] | None) -> tuple[float, ...]:
    if given is None:
        return (1 / len(rhs),) * len(rhs)
    if len(given) != len(rhs):
        raise UserError(f"symbol {symbol} has {len(rhs)} rules but {len(given)} probabilities; give one to each rule")
    for one, weight in zip(rhs, given, strict=True):
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(f"the probability of {show(symbol, one)} is {weight:g}; make it positive or drop the rule")
    total = math.fsum(given)
    if abs(total - 1) > 1e-5:
        raise UserError(f"the probabilities of the rules of {symbol} sum to {total:g}; they must sum to 1")
    # Only rounding is repaired, so that probabilities that were read, written and read again stay the same bits.
    return tuple(weight / total for weight in given) if abs(total - 1) > 1e-12 else tuple(map(float, given))
