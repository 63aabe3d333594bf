"""Depo: the k-th successor on a cycle that is told edge by edge (Part 4.1, arXiv 2512.17351, section 2.1, appendix A).

A document is <bos>, for each of n nodes, in random order, its name and its successor's name, then up to ten questions:
the mark of k hops, a name, `ans`, and the name k steps on. No separators: the last token of a name says that it ends.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numba import njit

from synth.errors import UserError
from synth.random.numba_rng import begin, below, chosen, key, permute
from synth.random.size_distribution import chances
from synth.task import Block, Example, Task
from synth.vocab import Vocab

Name = tuple[int, ...]
_DEPO2: dict[str, Any] = {"hops": 16, "shortest": 5, "longest": 7, "alphabet": 4}


@dataclass(frozen=True)
class Depo(Task):
    """nodes: the most of a cycle, least: the fewest; hops: the most of a question; queries: questions of a document,
    each from another node (all nodes, where there are fewer).

    Names have shortest..longest tokens of an alphabet, different within a document; their last token is taken from a
    second copy of the alphabet. With longest=1 there is only that copy. The paper's Depo2 has alphabet=4, the released
    code 3.
    """

    nodes: int = 25
    hops: int = 4
    shortest: int = 1
    longest: int = 2
    alphabet: int = 50
    queries: int = 10
    least: int = 3

    name: ClassVar[str] = "depo"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        **{f"depo1-{n}": {"nodes": n, "hops": 8} for n in (225, 300, 375)},
        **{f"depo2-{n}": {"nodes": n, **_DEPO2} for n in (75, 100, 125)},
    }

    def __post_init__(self) -> None:
        for name in ("hops", "shortest", "alphabet", "queries", "least"):
            if getattr(self, name) < 1:
                raise UserError(f"depo: {name}={getattr(self, name)} must be at least 1")
        if self.nodes < self.least:
            raise UserError(f"depo: nodes={self.nodes} is below least={self.least}; raise nodes or lower least")
        if self.longest < self.shortest:
            raise UserError(f"depo: longest={self.longest} is below shortest={self.shortest}; raise it")
        names = sum(self.alphabet**length for length in range(self.shortest, self.longest + 1))
        if names < self.nodes:
            raise UserError(f"depo: {self.nodes} nodes but {names} names; enlarge the alphabet or the names")
        if (self.alphabet + 1) ** self.longest >= 2**62:
            raise UserError(
                f"depo: names of {self.longest} of {self.alphabet} letters are too many to number; shorten them"
            )

    @property
    def inner(self) -> int:
        """How many ids stand inside names: 1..inner; the ids of their ends follow."""
        return self.alphabet if self.longest > 1 else 0

    @property
    def ends(self) -> int:
        """The greatest id of a name's last token; the marks of 1..hops hops and of the answer follow."""
        return self.inner + self.alphabet

    @property
    def mark(self) -> int:
        """The id of `ans`."""
        return self.ends + self.hops + 1

    def vocab(self) -> Vocab:
        letters = [str(i + 1) for i in range(self.alphabet)]
        ends = [f"{letter}." for letter in letters] if self.inner else []
        return Vocab((*letters, *ends, *(f"query{k + 1}" for k in range(self.hops)), "ans"))

    def hardest(self) -> "Depo":
        """The same with `nodes` nodes in every document, as it is tested."""
        return replace(self, least=self.nodes)

    @property
    def sizes(self) -> np.ndarray:
        """Probability (m,) of each number of nodes least..nodes in a document: in proportion to 1/(n + sqrt(nodes))."""
        return chances(self.least, self.nodes)

    @property
    def most(self) -> int:
        """Tokens that no document exceeds."""
        asked = min(self.queries, self.nodes)
        return 1 + 2 * self.nodes * self.longest + asked * 2 * (1 + self.longest)

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents; label `answer` numbers the questions on the tokens of their answers, `difficulty` has their hops
        there, and both are -1 elsewhere."""
        tokens, mask = np.empty(n * self.most, np.int32), np.zeros(n * self.most, bool)
        answer, difficulty = np.full((2, n * self.most if labels else 0), -1, np.int16)
        offsets, prompts, nodes, hops = np.zeros((4, n + 1), np.int64)
        shape = self.shortest, self.longest, self.alphabet, self.hops, self.queries
        columns = tokens, mask, answer, difficulty, offsets, prompts, nodes, hops
        _write(key(rng), n, self.least, np.cumsum(self.sizes), shape, columns)
        end, slices = int(offsets[-1]), {"nodes": nodes[:-1], "hops": hops[:-1]}
        truth = {"answer": answer[:end].copy(), "difficulty": difficulty[:end].copy()} if labels else {}
        return Block(tokens[:end].copy(), offsets, mask[:end].copy(), prompts[:-1], slices, truth)

    def read(self, document: np.ndarray) -> tuple[list[tuple[Name, Name]], list[tuple[int, Name, Name]]] | None:
        """The edges and the questions (hops, name, answer) that a document (T,) of ids tells, right or wrong; None
        where it is not of this form."""
        ids = np.asarray(document, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        listed, cuts = ids.tolist(), [0, *(np.flatnonzero(ids > self.inner) + 1).tolist()]
        if cuts[-1] != len(listed) or min(listed, default=0) < 1 or max(listed) > self.mark:
            return None
        pieces = [tuple(listed[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
        first = next((i for i, piece in enumerate(pieces) if piece[-1] > self.ends), len(pieces))
        told, asked = pieces[:first], [pieces[i : i + 4] for i in range(first, len(pieces), 4)]
        if first % 2 or not all(self._is_question(parts) for parts in asked):
            return None
        return list(zip(told[::2], told[1::2], strict=True)), [(q[0] - self.ends, name, a) for q, name, _, a in asked]

    def _is_question(self, parts: list[Name]) -> bool:
        """Whether these pieces of a document are the mark of some hops, a name, the mark of an answer, a name."""
        if len(parts) != 4 or len(parts[0]) != 1 or parts[2] != (self.mark,):
            return False
        return self.ends < parts[0][0] < self.mark and max(parts[1][-1], parts[3][-1]) <= self.ends

    def judged(self, document: np.ndarray) -> bool:
        """Whether a document tells one cycle over nodes of different names, and answers each of its questions right."""
        edges, questions = self.read(document) or ([], [])
        after = dict(edges)
        if not questions or len(after) != len(edges) or not self.least <= len(edges) <= self.nodes:
            return False
        cycle = [edges[0][0]]
        while len(cycle) < len(edges) and after.get(cycle[-1]) not in (None, cycle[0]):
            cycle.append(after[cycle[-1]])
        if len(cycle) < len(edges) or after.get(cycle[-1]) != cycle[0]:
            return False
        place = {node: i for i, node in enumerate(cycle)}
        return all(q in place and cycle[(place[q] + k) % len(cycle)] == said for k, q, said in questions)

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 when the last answer is the right name; what follows a whole name is not looked at, as documents
        have no <eos>. Without an example: 1 for a document whose edges are one cycle and whose answers are all right.
        """
        if example is None:
            return {"correct": float(self.judged(completion))}
        truth = example.tokens[example.prompt_length :]
        return {"correct": float(np.array_equal(completion[: len(truth)], truth))}

    def floors(self, world: None) -> dict[str, float]:
        """correct: the best guess of who has not read the edges (the node itself after whole rounds of the cycle, else
        any other); loss: 0, as only answers are trained on and they are certain."""
        n, k = np.arange(self.least, self.nodes + 1)[:, None], np.arange(1, self.hops + 1)
        guess = np.where(k % n == 0, 1.0, 1 / np.maximum(n - 1, 1))
        return {"correct": float(self.sizes @ guess.mean(axis=1)), "loss": 0.0}


@njit(cache=True, nogil=True)
def _draw_names(state, n, shape, names, lengths, table):
    """n different names into rows of names (nodes, longest) and lengths (nodes,): a name drawn before is drawn anew."""
    shortest, longest, alphabet = shape[:3]
    room = np.uint64(len(table) - 1)  # a power of two less 1: open addressing
    table[:] = 0
    done = 0
    while done < n:
        length = shortest + below(state, longest - shortest + 1)
        number = np.uint64(0)
        for j in range(length):
            letter = below(state, alphabet) + 1
            names[done, j] = letter
            number = number * np.uint64(alphabet + 1) + np.uint64(letter)
        slot = (number * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) & room
        while table[slot] != 0 and table[slot] != number:
            slot = (slot + np.uint64(1)) & room
        if table[slot] == 0:
            table[slot] = number
            names[done, length - 1] += alphabet if longest > 1 else 0
            lengths[done] = length
            done += 1


@njit(cache=True, nogil=True)
def _write_name(name, length, tokens, at):
    for j in range(length):
        tokens[at + j] = name[j]
    return at + length


@njit(cache=True, nogil=True)
def _write(key, n, least, cumulative, shape, columns):
    """Writes n documents end to end; shape: shortest, longest, alphabet, hops, queries. A node's number is its place on
    the cycle, so that its k-th successor is k places on."""
    tokens, mask, answer, difficulty, offsets, prompts, nodes, hops = columns
    longest, alphabet, most_hops, queries = shape[1:]
    most = least + len(cumulative) - 1
    first_mark = (2 if longest > 1 else 1) * alphabet
    room = 1
    while room < 2 * most:
        room *= 2
    state, table = np.empty(1, np.uint64), np.empty(room, np.uint64)
    names, lengths = np.empty((most, longest), np.int64), np.empty(most, np.int64)
    cycle, order = np.empty(most, np.int64), np.empty(most, np.int64)
    at = 0
    for i in range(n):
        begin(state, key, i)
        size = least + chosen(state, cumulative)
        _draw_names(state, size, shape, names, lengths, table)
        permute(state, cycle, size, size)  # names drawn late are longer, which must not show along the cycle
        permute(state, order, size, size)
        tokens[at] = 0
        at += 1
        for edge in order[:size]:
            for node in (cycle[edge], cycle[(edge + 1) % size]):
                at = _write_name(names[node], lengths[node], tokens, at)
        asked = min(queries, size)
        permute(state, order, size, asked)
        for q in range(asked):
            k = 1 + below(state, most_hops)
            node, found = cycle[order[q]], cycle[(order[q] + k) % size]
            tokens[at] = first_mark + k
            at = _write_name(names[node], lengths[node], tokens, at + 1)
            tokens[at] = first_mark + most_hops + 1
            prompts[i] = at + 1 - offsets[i]
            end = _write_name(names[found], lengths[found], tokens, at + 1)
            mask[at:end] = True
            if len(answer):
                answer[at + 1 : end] = q
                difficulty[at + 1 : end] = k
            at = end
            hops[i] = k
        nodes[i] = size
        offsets[i + 1] = at
