"""Brevo: topological order of a node's dependencies (Part 4.1, arXiv 2512.17351, section 2.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from synth.errors import UserError
from synth.random.rng import rng as stream
from synth.random.size_distribution import check_sizes
from synth.task import Block, Example, Task
from synth.vocab import Vocab

if TYPE_CHECKING:
    from synth.random.dependency_graph import GraphBatch

Word = tuple[int, ...]
FLOOR_DOCUMENTS = 4096  # documents from which floors are estimated


@dataclass(frozen=True)
class Question:
    """A parsed prompt: the parents of every node that has any, and the queried node."""

    parents: dict[Word, set[Word]]
    queried: Word

    @cached_property
    def dependencies(self) -> set[Word]:
        """The queried node and all its dependencies."""
        reached, stack = {self.queried}, [self.queried]
        while stack:
            new = self.parents.get(stack.pop(), set()) - reached
            reached |= new
            stack += new
        return reached

    @property
    def nodes(self) -> set[Word]:
        """All nodes of the prompt."""
        return {self.queried}.union(self.parents, *self.parents.values())


@dataclass(frozen=True)
class Brevo(Task):
    """List all nodes that a node of a directed acyclic graph depends on, in topological order.

    Example (nodes=5): `<bos> 2 4 5 4 5 1 5 2 query 1 ans 5 1 <eos>`: edges (parent, child) 2 -> 4, 5 -> 4, 5 -> 1 and
    5 -> 2, then the dependencies of node 1. Sizes n have a probability proportional to 1 / (n + sqrt(nodes)).
    Source: Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A, task Brevo.
    Floors (estimates from 4,096 documents): correct of random nodes, direct of the parents alone, loss of knowing all
    but the drawn order, loss_error its standard error.
    """

    nodes: int = 12
    """Largest number of nodes in a graph."""
    least: int = 3
    """Smallest number of nodes in a graph."""
    alphabet: int = 0
    """Number of letters that names are made of; 0: as many as nodes (Brevo1)."""
    shortest: int = 1
    """Smallest number of tokens in a name."""
    longest: int = 1
    """Largest number of tokens in a name; above 1, the last comes from a second alphabet (Brevo2)."""
    last: bool = False
    """Query the last node, as the released code, rather than one of the last quarter, as the paper."""

    name: ClassVar[str] = "brevo"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 4.1 (arXiv 2512.17351), section 2.1 and appendix A, task Brevo"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        **{f"brevo1-{n}": {"nodes": n} for n in (70, 90, 110)},
        **{f"brevo2-{n}": {"nodes": n, "alphabet": 4, "shortest": 2, "longest": 4} for n in (30, 40, 50)},
    }

    def __post_init__(self) -> None:
        check_sizes("brevo", "nodes", self.least, self.nodes, 2)
        if not 1 <= self.shortest <= self.longest:
            raise UserError(f"brevo: shortest={self.shortest}, longest={self.longest}; give 1 <= shortest <= longest")
        if self.alphabet < 0 or (self.longest > 1 and not self.alphabet):
            raise UserError(f"brevo: alphabet={self.alphabet} writes no names of several tokens; give alphabet=4, say")
        names = sum(self.alphabet_size**length for length in range(self.shortest, self.longest + 1))
        if names < self.nodes:
            raise UserError(f"brevo: {self.nodes} nodes but {names} names; enlarge alphabet or longest")
        if (self.alphabet_size + 1) ** self.longest >= 2**62:
            raise UserError(
                f"brevo: names of {self.longest} of {self.alphabet_size} letters cannot be numbered; shorten them"
            )

    @property
    def alphabet_size(self) -> int:
        """Size of the alphabet."""
        return self.alphabet or self.nodes

    @property
    def num_inner_ids(self) -> int:
        """Number of ids (from 1) of tokens inside names; those of last tokens follow."""
        return self.alphabet_size if self.longest > 1 else 0

    @property
    def query(self) -> int:
        """Id of the query mark; those of the answer mark and <eos> follow."""
        return self.num_inner_ids + self.alphabet_size + 1

    def hardest(self) -> "Brevo":
        """The same task with graphs of the largest size only, as models are tested."""
        return replace(self, least=self.nodes)

    def vocab(self) -> Vocab:
        """Letters as numbers; with a point for the last of a name (unless longest is 1); then query and ans."""
        return self._vocab

    @cached_property
    def _vocab(self) -> Vocab:
        letters = [str(i + 1) for i in range(self.alphabet_size)]
        ends = [f"{letter}." for letter in letters] if self.num_inner_ids else []
        return Vocab((*letters, *ends, "query", "ans"))

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents. Labels: answer, 0 from the first token of the answer to <eos>, and difficulty, there the least
        distance from the queried node to a leaf; both -1 elsewhere."""
        from synth.random.dependency_graph import DEPTH, NUM_NODES

        graphs = self._sample_graphs(rng, n)
        sizes = np.diff(graphs.offsets)
        place = np.arange(len(graphs.tokens)) - np.repeat(graphs.offsets[:-1] - graphs.prompt_lengths, sizes)
        after = place - 2 * np.repeat(graphs.prompt_lengths, sizes)  # 0 at the first token of the answer
        slices = {"nodes": graphs.counts[:, NUM_NODES], "depth": graphs.counts[:, DEPTH]}
        truth = {}
        if labels:
            truth["answer"] = np.where(after >= 0, 0, -1).astype(np.int16)
            truth["difficulty"] = np.where(after >= 0, np.repeat(slices["depth"], sizes), -1).astype(np.int16)
        return Block(graphs.tokens, graphs.offsets, after >= -1, graphs.prompt_lengths, slices, truth)

    def _sample_graphs(self, rng: np.random.Generator, n: int) -> "GraphBatch":
        from synth.random import dependency_graph

        names = dependency_graph.NameFormat(self.alphabet_size, self.shortest, self.longest)
        marks = dependency_graph.MarkerIds(self.query, self.query + 1, self.query + 2)
        return dependency_graph.sample_graphs(rng, n, self.least, self.nodes, self.last, names, marks)

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 if the answer has all dependencies, each once and after its parents, and nothing else; <eos> is
        optional."""
        return {"correct": float(self.detail(world, example, completion)["correct"])}

    def detail(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, Any]:
        """correct; readable: the answer is a list of names; finished: it ends with <eos>; and lists of names: needed
        (all dependencies), missing, repeated, needless (other nodes of the graph), foreign (not in the graph), and
        early (before a parent)."""
        prompt, ids = self._split_prompt(example, np.asarray(completion, np.int64))
        question = None if prompt is None else self.parse(prompt)
        finished = len(ids) > 0 and ids[-1] == self.query + 2
        answer = self.split_names(ids[: len(ids) - finished])
        if question is None or answer is None:
            return {"correct": False, "readable": False, "finished": bool(finished)}
        needed, nodes = question.dependencies, question.nodes
        place = {word: i for i, word in reversed(list(enumerate(answer)))}
        faults = {
            "missing": sorted(needed - set(answer)),
            "repeated": sorted({word for i, word in enumerate(answer) if place[word] < i}),
            "needless": [word for word in answer if word in nodes - needed],
            "foreign": [word for word in answer if word not in nodes],
            "early": [
                word for word in answer if any(place.get(p, -1) > place[word] for p in question.parents.get(word, ()))
            ],
        }
        named = {
            key: [self._name_text(word) for word in words]
            for key, words in [*faults.items(), ("needed", sorted(needed))]
        }
        return {"correct": not any(faults.values()), "readable": True, "finished": bool(finished), **named}

    def _name_text(self, word: Word) -> str:
        return " ".join(self._vocab.decode(word))

    def _split_prompt(self, example: Example | None, ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """The prompt and the rest; the prompt is None if a whole document has no answer mark."""
        if example is not None:
            return example.prompt, ids
        marks = np.flatnonzero(ids == self.query + 1)
        return (ids[: marks[0] + 1], ids[marks[0] + 1 :]) if len(marks) else (None, ids)

    def parse(self, prompt: np.ndarray | Sequence[int]) -> Question | None:
        """The question of a prompt, with or without <bos>; None if it is malformed."""
        ids = np.asarray(prompt, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        marks = np.flatnonzero(ids == self.query)
        if len(marks) != 1 or ids[-1] != self.query + 1:
            return None
        edges, queried = self.split_names(ids[: marks[0]]), self.split_names(ids[marks[0] + 1 : -1])
        if edges is None or queried is None or len(edges) % 2 or len(queried) != 1:
            return None
        parents: dict[Word, set[Word]] = {}
        for parent, child in zip(edges[::2], edges[1::2], strict=True):
            parents.setdefault(child, set()).add(parent)
        return Question(parents, queried[0])

    def split_names(self, ids: np.ndarray | Sequence[int]) -> list[Word] | None:
        """The names in a sequence of ids; None if there is another token or the last name is incomplete."""
        names, word = [], list[int]()
        for token in np.asarray(ids, np.int64).tolist():
            if not 0 < token < self.query:
                return None
            word.append(token)
            if token > self.num_inner_ids:
                names.append(tuple(word))
                word = []
        return None if word else names

    def floors(self, world: None) -> dict[str, float]:
        """Estimates from 4,096 fixed documents. loss: nats a target of a model that knows all but the drawn order, and
        loss_error, its standard error; correct: of a random subset of the nodes in random order, the queried one last;
        direct: of the parents of the queried node alone."""
        from synth.random.dependency_graph import ANSWER_LENGTH, NUM_CONNECTED, NUM_PARENTS

        graphs = self._sample_graphs(stream("floors of brevo", self.key), FLOOR_DOCUMENTS)
        trained = np.diff(graphs.offsets) - graphs.prompt_lengths + 1
        loss = graphs.surprisal.sum() / trained.sum()
        error = np.std(graphs.surprisal - loss * trained) / trained.mean() / np.sqrt(FLOOR_DOCUMENTS)
        counts = graphs.counts
        # the mean of 1 / p(order) is the number of orders
        ordered = np.exp(graphs.surprisal - _log_factorial(counts[:, ANSWER_LENGTH] - 1))
        return {
            "correct": float(np.mean(ordered * 0.5 ** (counts[:, NUM_CONNECTED] - 1))),
            "direct": float(np.mean(ordered * (counts[:, ANSWER_LENGTH] == counts[:, NUM_PARENTS] + 1))),
            "loss": float(loss),
            "loss_error": float(error),
        }


def _log_factorial(n: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max() + 1)))])[n]
