"""Dependency graphs, a question about each, and an order that answers it, written at once (Part 4.1, appendix A).

Nodes come one after another: some leaves, then nodes that each depend on 1 to 4 earlier ones (their parents), of which
no node may have more than 4 children. The answer holds all that the asked node depends on, and itself last, as Kahn's
algorithm pops them from the asked node on, read backwards; every pop is a uniform choice among the nodes that are free.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from synth.random.size_distribution import cumulative

DEGREE = 4  # parents of a node, and children
NODES, SEEN, EDGES, ANSWERS, DIRECT, DEPTH = range(6)


class Marks(NamedTuple):
    """Ids of the tokens around the names; <bos> is 0 and names are numbered from 1."""

    query: int
    answer: int
    eos: int


class Names(NamedTuple):
    """How nodes are called: by words of shortest to longest letters 1..alphabet, all different within a document. The
    last letter of a word is written as alphabet + itself, so that words end where they end; not so with longest 1."""

    alphabet: int
    shortest: int
    longest: int


class Drawn(NamedTuple):
    """n documents, <bos> edges query name answer order <eos>, end to end.

    tokens (N,) int32; offsets (n+1,) int64; prompts (n,): tokens up to the answer mark, itself included; counts (n, 6),
    by the columns NODES, SEEN (of them on an edge), EDGES, ANSWERS (nodes of the answer, the asked one included),
    DIRECT (parents of the asked node) and DEPTH (the least number of edges from it to a leaf); surprise (n,):
    -log of the probability, in nats, of the order that was drawn, given graph and question.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    prompts: np.ndarray
    counts: np.ndarray
    surprise: np.ndarray


def draw(rng: np.random.Generator, n: int, least: int, most: int, last: bool, names: Names, marks: Marks) -> Drawn:
    """n problems of least..most nodes, one after another from one stream, so that fewer are the first of more.

    last: ask for the last node, not for one of the last quarter.
    """
    edges = DEGREE * (most - 1)
    room = (2 * edges + most + 1) * names.longest + 4
    tokens, offsets, prompts = np.empty(n * room, np.int32), np.zeros(n + 1, np.int64), np.empty(n, np.int64)
    counts, surprise = np.empty((n, 6), np.int64), np.empty(n)
    total = _write(rng, cumulative(least, most), least, last, names, marks, tokens, offsets, prompts, counts, surprise)
    return Drawn(tokens[:total].copy(), offsets, prompts, counts, surprise)


@njit(cache=True, nogil=True)
def _write(rng, sums, least, last, names, marks, tokens, offsets, prompts, counts, surprise):
    """Fills the arrays of `Drawn`; returns the total length."""
    most = least + len(sums) - 1
    parents, degree, children = np.empty((most, DEGREE), np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    words, sizes = np.empty((most, names.longest), np.int32), np.ones(most, np.int64)
    edges, order = np.empty(DEGREE * most, np.int64), np.empty(most, np.int64)
    pool, scratch = np.arange(1, names.alphabet + 1), np.empty(most, np.int64)
    for i in range(len(prompts)):
        n = least + np.searchsorted(sums, rng.random(), side="right")
        _grow(rng, n, parents, degree, children, scratch)
        first = n - 1 if last else 3 * n // 4  # no leaf is as late as that, so that there is something to answer
        asked = first + _below(rng, n - first)
        if names.longest > 1:
            _spell(rng, n, names, words, sizes, scratch)
        else:
            _shuffle(rng, pool, len(pool), n)
            words[:n, 0] = pool[:n]
        count = _number(degree[:n], edges)
        _shuffle(rng, edges, count, count)
        length, surprise[i] = _solve(rng, asked, parents, degree, order, scratch)
        begin = offsets[i]
        prompt = _ask(asked, edges[:count], parents, words, sizes, marks, tokens, begin)
        end = _tell(order[:length], words, sizes, marks, tokens, prompt)
        prompts[i], offsets[i + 1] = prompt - begin, end
        counts[i, NODES], counts[i, EDGES], counts[i, ANSWERS], counts[i, DIRECT] = n, count, length, degree[asked]
        counts[i, SEEN] = np.sum((degree[:n] > 0) | (children[:n] > 0))
        counts[i, DEPTH] = _depth(asked, parents, degree, scratch)
    return offsets[-1]


@njit(cache=True, nogil=True)
def _number(degree, edges):
    """Lists the edges, DEGREE * child + number of the parent; returns how many there are."""
    count = 0
    for node in range(len(degree)):
        for j in range(degree[node]):
            edges[count] = DEGREE * node + j
            count += 1
    return count


@njit(cache=True, nogil=True)
def _ask(asked, edges, parents, words, sizes, marks, tokens, at):
    """Writes <bos> edges query name answer; returns where the answer begins."""
    tokens[at] = 0
    at += 1
    for edge in edges:
        child = edge // DEGREE
        at = _say(words, sizes, parents[child, edge % DEGREE], tokens, at)
        at = _say(words, sizes, child, tokens, at)
    tokens[at] = marks.query
    at = _say(words, sizes, asked, tokens, at + 1)
    tokens[at] = marks.answer
    return at + 1


@njit(cache=True, nogil=True)
def _tell(pops, words, sizes, marks, tokens, at):
    """Writes the pops backwards and <eos>; returns where the document ends."""
    for node in pops[::-1]:
        at = _say(words, sizes, node, tokens, at)
    tokens[at] = marks.eos
    return at + 1


@njit(cache=True, nogil=True, inline="always")
def _below(rng, bound):
    return np.int64(rng.random() * bound)


@njit(cache=True, nogil=True)
def _shuffle(rng, values, count, chosen):
    """Puts `chosen` of the first `count` values, drawn without replacement, in front, in random order."""
    for i in range(chosen):
        j = i + _below(rng, count - i)
        values[i], values[j] = values[j], values[i]


@njit(cache=True, nogil=True)
def _grow(rng, n, parents, degree, children, free):
    """Draws a graph: parents (n, 4) of which degree (n,) count, and how many children (n,) each node has.

    Some node is always free, as every node before has given at most four children and taken none too many."""
    leaves = 1 + _below(rng, (n - 1) // DEGREE + 1)
    open_ = 0
    for node in range(n):
        degree[node] = children[node] = 0
        if node >= leaves:
            degree[node] = 1 + _below(rng, min(open_, DEGREE))
            _shuffle(rng, free, open_, degree[node])
            for j in range(degree[node] - 1, -1, -1):
                parents[node, j] = free[j]
                children[free[j]] += 1
                if children[free[j]] == DEGREE:
                    open_ -= 1
                    free[j] = free[open_]
        free[open_] = node
        open_ += 1


@njit(cache=True, nogil=True)
def _spell(rng, n, names, words, sizes, codes):
    """Draws n different words: the length is uniform, then every letter; a word that is taken is drawn again."""
    for node in range(n):
        taken = True
        while taken:
            sizes[node] = names.shortest + _below(rng, names.longest - names.shortest + 1)
            codes[node] = 0
            for j in range(sizes[node]):
                words[node, j] = 1 + _below(rng, names.alphabet)
                codes[node] = codes[node] * (names.alphabet + 1) + words[node, j]
            taken = False
            for other in range(node):
                taken |= codes[other] == codes[node]
        words[node, sizes[node] - 1] += names.alphabet


@njit(cache=True, nogil=True)
def _solve(rng, asked, parents, degree, order, waiting):
    """Fills `order` with the pops, the asked node first; returns how many there are and -log of their probability."""
    waiting[: asked + 1] = -1  # of a needed node: how many of the needed ones that depend on it are not popped yet
    waiting[asked] = 0
    for node in range(asked, -1, -1):
        if waiting[node] >= 0:
            for j in range(degree[node]):
                parent = parents[node, j]
                waiting[parent] = max(waiting[parent], 0) + 1
    order[0], done, ready, surprise = asked, 0, 1, 0.0
    while done < ready:
        surprise += np.log(ready - done)
        pick = done + _below(rng, ready - done)
        order[done], order[pick] = order[pick], order[done]
        node = order[done]
        done += 1
        for j in range(degree[node]):
            waiting[parents[node, j]] -= 1
            if waiting[parents[node, j]] == 0:
                order[ready] = parents[node, j]
                ready += 1
    return done, surprise


@njit(cache=True, nogil=True)
def _depth(asked, parents, degree, distance):
    """The least number of edges from the asked node down to a leaf."""
    for node in range(asked + 1):
        distance[node] = 0 if degree[node] == 0 else node
        for j in range(degree[node]):
            distance[node] = min(distance[node], distance[parents[node, j]] + 1)
    return distance[asked]


@njit(cache=True, nogil=True, inline="always")
def _say(words, sizes, node, tokens, at):
    for j in range(sizes[node]):
        tokens[at] = words[node, j]
        at += 1
    return at
