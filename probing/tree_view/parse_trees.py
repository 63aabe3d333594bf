"""Trees as lists of nodes, to be drawn: the true one from a derivation, and the one that probes read level by level.

Levels count from the root, which is 1, as in Part 1 (arXiv 2305.13673), Figure 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from synth.cfg import Grammar


@dataclass(frozen=True)
class Node:
    """A symbol above the terminals start to stop - 1 of a sentence."""

    level: int
    start: int
    stop: int
    symbol: str


def true_nodes(derivation: tuple) -> list[Node]:
    """All nonterminals of a derivation (symbol, child, child, ...), a parent before its children."""
    found: list[Node] = []

    def walk(tree: tuple | str, level: int, start: int) -> int:
        if isinstance(tree, str):
            return start + 1
        place = len(found)
        found.append(Node(level, start, start, tree[0]))  # where it stops is known after its children
        stop = start
        for child in tree[1:]:
            stop = walk(child, level + 1, stop)
        found[place] = Node(level, start, stop, tree[0])
        return stop

    walk(derivation, 1, 0)
    return found


def read_nodes(grammar: Grammar, ancestors: Int[np.ndarray, "V T"], ends: Bool[np.ndarray, "V T"]) -> list[Node]:
    """The tree that answers level by level spell, with the root, which is known.

    ancestors: numbers of symbols within levels 2, 3, ...; ends: whether a subtree ends. A node stops where an end is
    read, where its symbol changes, and where a node above it stops, so that the answers always make a tree.
    """
    length = ancestors.shape[1]
    found, cuts = [Node(1, 0, length, grammar.root)], np.zeros(length, bool)
    cuts[-1] = True
    for level, (numbers, here) in enumerate(zip(ancestors, ends, strict=True), 2):
        cuts = cuts | here | (numbers != np.append(numbers[1:], numbers[-1]))
        stops = np.flatnonzero(cuts) + 1
        for start, stop in zip([0, *stops], stops, strict=False):
            found.append(Node(level, int(start), int(stop), grammar.levels[level - 1][numbers[start]]))
    return found


def ancestors_of(grammar: Grammar, nodes: Sequence[Node], length: int) -> Int[np.ndarray, "V T"]:
    """The number of the symbol above every position, on the levels between root and terminals."""
    found = np.full((grammar.depth - 2, length), -1)
    for node in nodes[1:]:
        found[node.level - 2, node.start : node.stop] = grammar.levels[node.level - 1].index(node.symbol)
    return found


def links(grammar: Grammar, nodes: Sequence[Node]) -> set[Node]:
    """The nodes with one child that only carry a symbol down to the level where it must be: a drawing is clearer
    without them. The root is none."""
    spans = {(node.level, node.start, node.stop) for node in nodes}
    spans |= {(grammar.depth, i, i + 1) for i in range(max((node.stop for node in nodes), default=0))}
    carriers = {symbol for symbol, sides in grammar.rules.items() if any(len(rhs) == 1 for rhs in sides)}
    return {n for n in nodes if n.level > 1 and n.symbol in carriers and (n.level + 1, n.start, n.stop) in spans}


def parents(nodes: Sequence[Node]) -> list[int]:
    """The place in `nodes` of the nearest node above each, -1 for the root; the nodes make a tree, in any order."""
    found = [-1] * len(nodes)
    above: list[int] = []
    for i in sorted(range(len(nodes)), key=lambda i: (nodes[i].start, nodes[i].level)):
        while above and nodes[above[-1]].stop <= nodes[i].start:
            above.pop()
        found[i] = above[-1] if above else -1
        above.append(i)
    return found
