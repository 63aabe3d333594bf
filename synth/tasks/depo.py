"""Depo: k-th successor on a cycle (Part 4.1, arXiv 2512.17351, section 2.1 and appendix A)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from synth.compiled_code import njit
from synth.errors import UserError
from synth.random.numba_rng import draw_key, next_bounded, partial_shuffle, sample_categorical, seed_state
from synth.random.rng import GOLDEN_GAMMA
from synth.random.size_distribution import size_probabilities
from synth.task import Block, Example, Task
from synth.vocab import Vocab

Name = tuple[int, ...]
_DEPO2: dict[str, Any] = {"hops": 16, "shortest": 5, "longest": 7, "alphabet": 4}


@dataclass(frozen=True)
class Depo(Task):
    """Find the k-th successor of a node on a directed cycle whose edges are listed in random order.

    Example (nodes=3, longest=1, queries=1): `<bos> 12 24 23 12 24 23 query1 23 ans 12`: edges 12 -> 24, 23 -> 12 and
    24 -> 23, then the node 1 hop after 23. Names of a document are distinct; the last token of a name comes from a
    second copy of the alphabet (the only copy if longest=1). Only the answers are trained on.
    Source: Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A; Depo2 has alphabet=4 in the paper, 3 in the code.
    Floors: correct of the best guess without the edges, loss = 0.
    """

    nodes: int = 25
    """Largest number of nodes on the cycle."""
    hops: int = 4
    """Largest number of hops in a query."""
    shortest: int = 1
    """Smallest number of tokens in a name."""
    longest: int = 2
    """Largest number of tokens in a name."""
    alphabet: int = 50
    """Number of letters that names are made of."""
    queries: int = 10
    """Queries in a document, each from another node (all nodes, if there are fewer)."""
    least: int = 3
    """Smallest number of nodes on the cycle."""

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
    def num_inner_ids(self) -> int:
        """Number of ids (from 1) of tokens inside names; those of last tokens follow."""
        return self.alphabet if self.longest > 1 else 0

    @property
    def last_name_id(self) -> int:
        """Greatest id of a last token of a name; the marks query1..queryK and `ans` follow."""
        return self.num_inner_ids + self.alphabet

    @property
    def answer_id(self) -> int:
        """Id of `ans`."""
        return self.last_name_id + self.hops + 1

    def vocab(self) -> Vocab:
        letters = [str(i + 1) for i in range(self.alphabet)]
        ends = [f"{letter}." for letter in letters] if self.num_inner_ids else []
        return Vocab((*letters, *ends, *(f"query{k + 1}" for k in range(self.hops)), "ans"))

    def hardest(self) -> "Depo":
        """The same task with `nodes` nodes in every document, as models are tested."""
        return replace(self, least=self.nodes)

    @property
    def node_count_probabilities(self) -> np.ndarray:
        """Probability (m,) of each number n of nodes, least..nodes, proportional to 1 / (n + sqrt(nodes))."""
        return size_probabilities(self.least, self.nodes)

    @property
    def max_length(self) -> int:
        """Upper bound on the tokens of a document."""
        return 1 + 2 * self.nodes * self.longest + min(self.queries, self.nodes) * 2 * (1 + self.longest)

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents. Labels on the tokens of answers: answer, index of the query, and difficulty, its hops; both -1
        elsewhere."""
        tokens, mask = np.empty(n * self.max_length, np.int32), np.zeros(n * self.max_length, bool)
        answer, difficulty = np.full((2, n * self.max_length if labels else 0), -1, np.int16)
        offsets, prompts, nodes, hops = np.zeros((4, n + 1), np.int64)
        shape = self.shortest, self.longest, self.alphabet, self.hops, self.queries
        columns = tokens, mask, answer, difficulty, offsets, prompts, nodes, hops
        _write_documents(draw_key(rng), n, self.least, np.cumsum(self.node_count_probabilities), shape, columns)
        end, slices = int(offsets[-1]), {"nodes": nodes[:-1], "hops": hops[:-1]}
        truth = {"answer": answer[:end].copy(), "difficulty": difficulty[:end].copy()} if labels else {}
        return Block(tokens[:end].copy(), offsets, mask[:end].copy(), prompts[:-1], slices, truth)

    def parse(self, document: np.ndarray) -> tuple[list[tuple[Name, Name]], list[tuple[int, Name, Name]]] | None:
        """Edges (name, successor) and queries (hops, name, answer) of a document (T,); None if it is malformed."""
        ids = np.asarray(document, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        listed, cuts = ids.tolist(), [0, *(np.flatnonzero(ids > self.num_inner_ids) + 1).tolist()]
        if cuts[-1] != len(listed) or min(listed, default=0) < 1 or max(listed) > self.answer_id:
            return None
        pieces = [tuple(listed[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
        first = next((i for i, piece in enumerate(pieces) if piece[-1] > self.last_name_id), len(pieces))
        names, queries = pieces[:first], [pieces[i : i + 4] for i in range(first, len(pieces), 4)]
        if first % 2 or not all(self._is_query(parts) for parts in queries):
            return None
        edges = list(zip(names[::2], names[1::2], strict=True))
        return edges, [(q[0] - self.last_name_id, name, a) for q, name, _, a in queries]

    def _is_query(self, parts: list[Name]) -> bool:
        """Whether pieces of a document are a query mark, a name, `ans` and a name."""
        if len(parts) != 4 or len(parts[0]) != 1 or parts[2] != (self.answer_id,):
            return False
        return self.last_name_id < parts[0][0] < self.answer_id and max(parts[1][-1], parts[3][-1]) <= self.last_name_id

    def is_correct(self, document: np.ndarray) -> bool:
        """Whether the edges of a document form one cycle of distinct names and all answers are right."""
        edges, questions = self.parse(document) or ([], [])
        after = dict(edges)
        if not questions or len(after) != len(edges) or not self.least <= len(edges) <= self.nodes:
            return False
        cycle = [edges[0][0]]
        while len(cycle) < len(edges) and after.get(cycle[-1]) not in (None, cycle[0]):
            cycle.append(after[cycle[-1]])
        if len(cycle) < len(edges) or after.get(cycle[-1]) != cycle[0]:
            return False
        place = {node: i for i, node in enumerate(cycle)}
        return all(q in place and cycle[(place[q] + k) % len(cycle)] == answer for k, q, answer in questions)

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 if the completion begins with the last answer (documents have no <eos>); without an example, see
        `is_correct`."""
        if example is None:
            return {"correct": float(self.is_correct(completion))}
        truth = example.tokens[example.prompt_length :]
        return {"correct": float(np.array_equal(completion[: len(truth)], truth))}

    def floors(self, world: None) -> dict[str, float]:
        """correct: of the best guess without the edges (after full rounds of the cycle the node itself, else any
        other); loss: 0, since answers are certain."""
        n, k = np.arange(self.least, self.nodes + 1)[:, None], np.arange(1, self.hops + 1)
        guess = np.where(k % n == 0, 1.0, 1 / np.maximum(n - 1, 1))
        return {"correct": float(self.node_count_probabilities @ guess.mean(axis=1)), "loss": 0.0}


@njit()
def _sample_names(state, n, shape, names, lengths, table):
    """Draw n distinct names into names (nodes, longest) and lengths (nodes,); a repeated name is drawn again."""
    shortest, longest, alphabet = shape[:3]
    room = np.uint64(len(table) - 1)  # size of the table, a power of 2, less 1: open addressing
    table[:] = 0
    done = 0
    while done < n:
        length = shortest + next_bounded(state, longest - shortest + 1)
        number = np.uint64(0)
        for j in range(length):
            letter = next_bounded(state, alphabet) + 1
            names[done, j] = letter
            number = number * np.uint64(alphabet + 1) + np.uint64(letter)
        slot = (number * GOLDEN_GAMMA >> np.uint64(32)) & room
        while table[slot] != 0 and table[slot] != number:
            slot = (slot + np.uint64(1)) & room
        if table[slot] == 0:
            table[slot] = number
            names[done, length - 1] += alphabet if longest > 1 else 0
            lengths[done] = length
            done += 1


@njit()
def _write_name(name, length, tokens, at):
    for j in range(length):
        tokens[at + j] = name[j]
    return at + length


@njit()
def _write_documents(key, n, least, cumulative, shape, columns):
    """Write n documents into columns; shape: shortest, longest, alphabet, hops, queries."""
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
        seed_state(state, key, i)
        size = least + sample_categorical(state, cumulative)
        _sample_names(state, size, shape, names, lengths, table)
        partial_shuffle(state, cycle, size, size)  # later names are longer; the cycle must not show it
        partial_shuffle(state, order, size, size)
        tokens[at] = 0
        at += 1
        for edge in order[:size]:
            for node in (cycle[edge], cycle[(edge + 1) % size]):
                at = _write_name(names[node], lengths[node], tokens, at)
        count = min(queries, size)
        partial_shuffle(state, order, size, count)
        for q in range(count):
            k = 1 + next_bounded(state, most_hops)
            node, successor = cycle[order[q]], cycle[(order[q] + k) % size]
            tokens[at] = first_mark + k
            at = _write_name(names[node], lengths[node], tokens, at + 1)
            tokens[at] = first_mark + most_hops + 1
            prompts[i] = at + 1 - offsets[i]
            end = _write_name(names[successor], lengths[successor], tokens, at + 1)
            mask[at:end] = True
            if len(answer):
                answer[at + 1 : end] = q
                difficulty[at + 1 : end] = k
            at = end
            hops[i] = k
        nodes[i] = size
        offsets[i + 1] = at
