"""Parse trees as lists of nodes, from a derivation and from the predictions of probes on every level.

Levels count from the root, which is 1, as in Part 1 (arXiv 2305.13673), Figure 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from synth.cfg import Grammar


@dataclass(frozen=True)
class Node:
    """A symbol that spans the terminals start to stop - 1 of a sentence."""

    level: int
    start: int
    stop: int
    symbol: str


def nodes_of_derivation(derivation: tuple) -> list[Node]:
    """All nonterminals of a derivation (symbol, child, child, ...), a parent before its children."""
    nodes: list[Node] = []

    def walk(tree: tuple | str, level: int, start: int) -> int:
        if isinstance(tree, str):
            return start + 1
        index = len(nodes)
        nodes.append(Node(level, start, start, tree[0]))  # its stop is known after its children
        stop = start
        for child in tree[1:]:
            stop = walk(child, level + 1, stop)
        nodes[index] = Node(level, start, stop, tree[0])
        return stop

    walk(derivation, 1, 0)
    return nodes


def nodes_of_predictions(
    grammar: Grammar, ancestors: Int[np.ndarray, "V T"], ends: Bool[np.ndarray, "V T"]
) -> list[Node]:
    """The tree of predictions on V levels, plus the root.

    ancestors: index of the predicted symbol within levels 2, 3, ...; ends: whether a subtree is predicted to end. A
    node stops at a predicted end, where the symbol changes, and where a node above it stops, so the result is always a
    tree.
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
    """Index within its level of the symbol above every position, on the levels between root and terminals."""
    found = np.full((grammar.depth - 2, length), -1)
    for node in nodes[1:]:
        found[node.level - 2, node.start : node.stop] = grammar.levels[node.level - 1].index(node.symbol)
    return found


def unary_links(grammar: Grammar, nodes: Sequence[Node]) -> set[Node]:
    """Nodes with one child that only carry a symbol down to a lower level, which a drawing omits. Never the root."""
    spans = {(node.level, node.start, node.stop) for node in nodes}
    spans |= {(grammar.depth, i, i + 1) for i in range(max((node.stop for node in nodes), default=0))}
    carriers = {symbol for symbol, sides in grammar.rules.items() if any(len(rhs) == 1 for rhs in sides)}
    return {n for n in nodes if n.level > 1 and n.symbol in carriers and (n.level + 1, n.start, n.stop) in spans}


def parents(nodes: Sequence[Node]) -> list[int]:
    """Index in `nodes` of each node's parent, -1 for the root. The nodes are a tree, in any order."""
    found = [-1] * len(nodes)
    above: list[int] = []
    for i in sorted(range(len(nodes)), key=lambda i: (nodes[i].start, nodes[i].level)):
        while above and nodes[above[-1]].stop <= nodes[i].start:
            above.pop()
        found[i] = above[-1] if above else -1
        above.append(i)
    return found
