"""Random directed acyclic graphs with a query and its answer, for Brevo (Part 4.1, appendix A).

Nodes are added in order: some leaves, then nodes that each depend on 1 to 4 earlier ones (their parents); no node gets
more than 4 children. The answer lists all dependencies of the queried node and the node itself last. It is Kahn's
algorithm from the queried node, read backwards, with a uniform choice among the ready nodes at every step.
"""

from typing import NamedTuple

import numpy as np

from synth.compiled_code import njit
from synth.random.size_distribution import cumulative_probabilities

MAX_DEGREE = 4  # of parents and of children of a node
NUM_NODES, NUM_CONNECTED, NUM_EDGES, ANSWER_LENGTH, NUM_PARENTS, DEPTH = range(6)


class MarkerIds(NamedTuple):
    """Ids of the query mark, the answer mark and <eos>; <bos> is 0 and letters have ids from 1."""

    query: int
    answer: int
    eos: int


class NameFormat(NamedTuple):
    """Names of nodes: words of shortest..longest letters with ids 1..alphabet, distinct within a document.

    If longest is above 1, the last letter of a word has `alphabet` added to its id, which marks the end of the word.
    """

    alphabet: int
    shortest: int
    longest: int


class GraphBatch(NamedTuple):
    """n concatenated documents: <bos> edges query name answer order <eos>.

    tokens (N,) int32; offsets (n+1,) int64; prompt_lengths (n,): tokens up to and including the answer mark; counts
    (n, 6), by column: NUM_NODES, NUM_CONNECTED (nodes on an edge), NUM_EDGES, ANSWER_LENGTH (nodes in the answer),
    NUM_PARENTS (of the queried node), DEPTH (least number of edges from it to a leaf); surprisal (n,): nats of the
    answer's order, given graph and query.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    prompt_lengths: np.ndarray
    counts: np.ndarray
    surprisal: np.ndarray


def sample_graphs(
    rng: np.random.Generator,
    n: int,
    min_nodes: int,
    max_nodes: int,
    ask_last: bool,
    names: NameFormat,
    marks: MarkerIds,
) -> GraphBatch:
    """n graphs of min_nodes..max_nodes nodes, drawn in order from `rng`: a larger n begins with the same documents.

    ask_last: query the last node, instead of a random one of the last quarter.
    """
    edges = MAX_DEGREE * (max_nodes - 1)
    room = (2 * edges + max_nodes + 1) * names.longest + 4
    tokens, offsets, prompts = np.empty(n * room, np.int32), np.zeros(n + 1, np.int64), np.empty(n, np.int64)
    counts, surprise = np.empty((n, 6), np.int64), np.empty(n)
    total = _write(
        rng,
        cumulative_probabilities(min_nodes, max_nodes),
        min_nodes,
        ask_last,
        names,
        marks,
        tokens,
        offsets,
        prompts,
        counts,
        surprise,
    )
    return GraphBatch(tokens[:total].copy(), offsets, prompts, counts, surprise)


@njit()
def _write(rng, sums, least, last, names, marks, tokens, offsets, prompts, counts, surprise):
    """Fill the arrays of a GraphBatch; return the total length."""
    most = least + len(sums) - 1
    parents, degree, children = (
        np.empty((most, MAX_DEGREE), np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
    )
    words, sizes = np.empty((most, names.longest), np.int32), np.ones(most, np.int64)
    edges, order = np.empty(MAX_DEGREE * most, np.int64), np.empty(most, np.int64)
    pool, scratch = np.arange(1, names.alphabet + 1), np.empty(most, np.int64)
    for i in range(len(prompts)):
        n = least + np.searchsorted(sums, rng.random(), side="right")
        _grow(rng, n, parents, degree, children, scratch)
        first = n - 1 if last else 3 * n // 4  # later than every leaf, so that the node has dependencies
        queried = first + _random_below(rng, n - first)
        if names.longest > 1:
            _spell(rng, n, names, words, sizes, scratch)
        else:
            _shuffle(rng, pool, len(pool), n)
            words[:n, 0] = pool[:n]
        count = _number(degree[:n], edges)
        _shuffle(rng, edges, count, count)
        length, surprise[i] = _solve(rng, queried, parents, degree, order, scratch)
        begin = offsets[i]
        prompt = _write_question(queried, edges[:count], parents, words, sizes, marks, tokens, begin)
        end = _write_answer(order[:length], words, sizes, marks, tokens, prompt)
        prompts[i], offsets[i + 1] = prompt - begin, end
        counts[i, NUM_NODES], counts[i, NUM_EDGES], counts[i, ANSWER_LENGTH], counts[i, NUM_PARENTS] = (
            n,
            count,
            length,
            degree[queried],
        )
        counts[i, NUM_CONNECTED] = np.sum((degree[:n] > 0) | (children[:n] > 0))
        counts[i, DEPTH] = _depth(queried, parents, degree, scratch)
    return offsets[-1]


@njit()
def _number(degree, edges):
    """List edges as MAX_DEGREE * child + index of the parent; return their number."""
    count = 0
    for node in range(len(degree)):
        for j in range(degree[node]):
            edges[count] = MAX_DEGREE * node + j
            count += 1
    return count


@njit()
def _write_question(queried, edges, parents, words, sizes, marks, tokens, at):
    """Write <bos> edges query name answer; return the position after it."""
    tokens[at] = 0
    at += 1
    for edge in edges:
        child = edge // MAX_DEGREE
        at = _write_name(words, sizes, parents[child, edge % MAX_DEGREE], tokens, at)
        at = _write_name(words, sizes, child, tokens, at)
    tokens[at] = marks.query
    at = _write_name(words, sizes, queried, tokens, at + 1)
    tokens[at] = marks.answer
    return at + 1


@njit()
def _write_answer(pops, words, sizes, marks, tokens, at):
    """Write the nodes in reverse and <eos>; return the end of the document."""
    for node in pops[::-1]:
        at = _write_name(words, sizes, node, tokens, at)
    tokens[at] = marks.eos
    return at + 1


@njit(inline="always")
def _random_below(rng, bound):
    return np.int64(rng.random() * bound)


@njit()
def _shuffle(rng, values, count, chosen):
    """Move `chosen` of the first `count` values, drawn without replacement, to the front in random order."""
    for i in range(chosen):
        j = i + _random_below(rng, count - i)
        values[i], values[j] = values[j], values[i]


@njit()
def _grow(rng, n, parents, degree, children, free):
    """Draw a graph: parents (n, 4), of which degree (n,) are used, and the numbers of children (n,).

    A node with a free place for a child always exists: a new node has four and takes at most four.
    """
    leaves = 1 + _random_below(rng, (n - 1) // MAX_DEGREE + 1)
    open_ = 0
    for node in range(n):
        degree[node] = children[node] = 0
        if node >= leaves:
            degree[node] = 1 + _random_below(rng, min(open_, MAX_DEGREE))
            _shuffle(rng, free, open_, degree[node])
            for j in range(degree[node] - 1, -1, -1):
                parents[node, j] = free[j]
                children[free[j]] += 1
                if children[free[j]] == MAX_DEGREE:
                    open_ -= 1
                    free[j] = free[open_]
        free[open_] = node
        open_ += 1


@njit()
def _spell(rng, n, names, words, sizes, codes):
    """Draw n distinct words: a uniform length, then uniform letters; a repeated word is drawn again."""
    for node in range(n):
        taken = True
        while taken:
            sizes[node] = names.shortest + _random_below(rng, names.longest - names.shortest + 1)
            codes[node] = 0
            for j in range(sizes[node]):
                words[node, j] = 1 + _random_below(rng, names.alphabet)
                codes[node] = codes[node] * (names.alphabet + 1) + words[node, j]
            taken = False
            for other in range(node):
                taken |= codes[other] == codes[node]
        words[node, sizes[node] - 1] += names.alphabet


@njit()
def _solve(rng, queried, parents, degree, order, waiting):
    """Fill `order` with the dependencies, the queried node first; return their number and the order's nats."""
    waiting[: queried + 1] = -1  # dependents of each needed node that are not yet in the order
    waiting[queried] = 0
    for node in range(queried, -1, -1):
        if waiting[node] >= 0:
            for j in range(degree[node]):
                parent = parents[node, j]
                waiting[parent] = max(waiting[parent], 0) + 1
    order[0], done, ready, surprise = queried, 0, 1, 0.0
    while done < ready:
        surprise += np.log(ready - done)
        pick = done + _random_below(rng, ready - done)
        order[done], order[pick] = order[pick], order[done]
        node = order[done]
        done += 1
        for j in range(degree[node]):
            waiting[parents[node, j]] -= 1
            if waiting[parents[node, j]] == 0:
                order[ready] = parents[node, j]
                ready += 1
    return done, surprise


@njit()
def _depth(queried, parents, degree, distance):
    """Least number of edges from the queried node to a leaf."""
    for node in range(queried + 1):
        distance[node] = 0 if degree[node] == 0 else node
        for j in range(degree[node]):
            distance[node] = min(distance[node], distance[parents[node, j]] + 1)
    return distance[queried]


@njit(inline="always")
def _write_name(words, sizes, node, tokens, at):
    for j in range(sizes[node]):
        tokens[at] = words[node, j]
        at += 1
    return at
