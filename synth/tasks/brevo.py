"""Brevo: all that a node depends on, in an order that works (Physics of Language Models, Part 4.1, task Brevo).

A document lists the edges (parent, child) of an acyclic graph in random order, asks for one node, and answers with all
nodes it depends on, through however many steps, each after its parents, the asked one last. Any such order is right.
"""

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
    from synth.random.dependency_graph import Drawn

Word = tuple[int, ...]
FLOOR = 4096  # documents behind the floors


@dataclass(frozen=True)
class Question:
    """What a prompt says: the parents of every node that has some, and the node that is asked for."""

    parents: dict[Word, set[Word]]
    asked: Word

    @cached_property
    def needed(self) -> set[Word]:
        """The asked node and all that it depends on."""
        found, stack = {self.asked}, [self.asked]
        while stack:
            new = self.parents.get(stack.pop(), set()) - found
            found |= new
            stack += new
        return found

    @property
    def nodes(self) -> set[Word]:
        """All nodes of the prompt."""
        return {self.asked}.union(self.parents, *self.parents.values())


@dataclass(frozen=True)
class Brevo(Task):
    """nodes: the largest graph, N; least: the smallest. Sizes n between them have probability ~ 1 / (n + sqrt(N)).
    alphabet, shortest, longest: a name has so many tokens of an alphabet, the last from a second copy of it (Brevo2).
        With longest 1 there is no second copy, and alphabet 0 stands for as many as nodes (Brevo1).
    last: ask for the last node, as the released generator does, and not for one of the last quarter, as the paper says.
    """

    nodes: int = 12
    least: int = 3
    alphabet: int = 0
    shortest: int = 1
    longest: int = 1
    last: bool = False

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
        names = sum(self.letters**length for length in range(self.shortest, self.longest + 1))
        if names < self.nodes:
            raise UserError(f"brevo: {self.nodes} nodes but {names} names; enlarge alphabet or longest")
        if (self.letters + 1) ** self.longest >= 2**62:
            raise UserError(
                f"brevo: names of {self.longest} of {self.letters} letters cannot be numbered; shorten them"
            )

    @property
    def letters(self) -> int:
        """Size of the alphabet."""
        return self.alphabet or self.nodes

    @property
    def inner(self) -> int:
        """Ids 1..inner are of tokens inside a name; the ids of the last tokens of names follow."""
        return self.letters if self.longest > 1 else 0

    @property
    def query(self) -> int:
        """The id of the query mark; those of the answer mark and of <eos> follow."""
        return self.inner + self.letters + 1

    def hardest(self) -> "Brevo":
        """The same task with graphs of the largest size only, on which models are tested."""
        return replace(self, least=self.nodes)

    def vocab(self) -> Vocab:
        """Tokens of names as numbers, with a point where the name ends (unless longest is 1); then query and ans."""
        return self._vocab

    @cached_property
    def _vocab(self) -> Vocab:
        letters = [str(i + 1) for i in range(self.letters)]
        ends = [f"{letter}." for letter in letters] if self.inner else []
        return Vocab((*letters, *ends, "query", "ans"))

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents. Labels: answer, 0 from the first token of the answer to its <eos>, and difficulty, there the
        least distance from the asked node to a leaf; both -1 elsewhere."""
        from synth.random.dependency_graph import DEPTH, NODES

        drawn = self._draw(rng, n)
        sizes = np.diff(drawn.offsets)
        place = np.arange(len(drawn.tokens)) - np.repeat(drawn.offsets[:-1] - drawn.prompts, sizes)
        after = place - 2 * np.repeat(drawn.prompts, sizes)  # 0 at the first token of the answer
        slices = {"nodes": drawn.counts[:, NODES], "depth": drawn.counts[:, DEPTH]}
        truth = {}
        if labels:
            truth["answer"] = np.where(after >= 0, 0, -1).astype(np.int16)
            truth["difficulty"] = np.where(after >= 0, np.repeat(slices["depth"], sizes), -1).astype(np.int16)
        return Block(drawn.tokens, drawn.offsets, after >= -1, drawn.prompts, slices, truth)

    def _draw(self, rng: np.random.Generator, n: int) -> "Drawn":
        from synth.random import dependency_graph

        names = dependency_graph.Names(self.letters, self.shortest, self.longest)
        marks = dependency_graph.Marks(self.query, self.query + 1, self.query + 2)
        return dependency_graph.draw(rng, n, self.least, self.nodes, self.last, names, marks)

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 when the answer has all needed nodes, each once and after its parents, and nothing else before
        <eos> or after it. A completion may stop before its <eos>."""
        return {"correct": float(self.detail(world, example, completion)["correct"])}

    def detail(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, Any]:
        """correct; readable: the answer is a row of names; finished: <eos> ends it; and lists of names: needed and
        missing (unordered), repeated, needless (of the graph, but not needed), foreign (not of the graph), and early
        (before one of its parents)."""
        prompt, said = self._divided(example, np.asarray(completion, np.int64))
        question = None if prompt is None else self.read(prompt)
        finished = len(said) > 0 and said[-1] == self.query + 2
        answer = self.words(said[: len(said) - finished])
        if question is None or answer is None:
            return {"correct": False, "readable": False, "finished": bool(finished)}
        needed, nodes = question.needed, question.nodes
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
            key: [self._named(word) for word in words] for key, words in [*faults.items(), ("needed", sorted(needed))]
        }
        return {"correct": not any(faults.values()), "readable": True, "finished": bool(finished), **named}

    def _named(self, word: Word) -> str:
        return " ".join(self._vocab.decode(word))

    def _divided(self, example: Example | None, ids: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """Prompt and what follows it; no prompt where a whole document has no answer mark."""
        if example is not None:
            return example.prompt, ids
        marks = np.flatnonzero(ids == self.query + 1)
        return (ids[: marks[0] + 1], ids[marks[0] + 1 :]) if len(marks) else (None, ids)

    def read(self, prompt: np.ndarray | Sequence[int]) -> Question | None:
        """The question of a prompt, <bos> or not in front; None where it is none."""
        ids = np.asarray(prompt, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        marks = np.flatnonzero(ids == self.query)
        if len(marks) != 1 or ids[-1] != self.query + 1:
            return None
        edges, asked = self.words(ids[: marks[0]]), self.words(ids[marks[0] + 1 : -1])
        if edges is None or asked is None or len(edges) % 2 or len(asked) != 1:
            return None
        parents: dict[Word, set[Word]] = {}
        for parent, child in zip(edges[::2], edges[1::2], strict=True):
            parents.setdefault(child, set()).add(parent)
        return Question(parents, asked[0])

    def words(self, ids: np.ndarray | Sequence[int]) -> list[Word] | None:
        """The names in a row of ids; None where another token stands among them or the last is cut short."""
        found, word = [], list[int]()
        for token in np.asarray(ids, np.int64).tolist():
            if not 0 < token < self.query:
                return None
            word.append(token)
            if token > self.inner:
                found.append(tuple(word))
                word = []
        return None if word else found

    def floors(self, world: None) -> dict[str, float]:
        """Means over 4,096 fixed documents. loss: nats a trained token of who knows everything but which of the orders
        was drawn: an estimate, from the probabilities of the drawn orders; loss_error: its standard error; correct: of
        a guess that names each node of the graph or not, in random order, the asked one last; direct: of one that
        names the parents of the asked node and no others."""
        from synth.random.dependency_graph import ANSWERS, DIRECT, SEEN

        drawn = self._draw(stream("floors of brevo", self.key), FLOOR)
        trained = np.diff(drawn.offsets) - drawn.prompts + 1
        loss = drawn.surprise.sum() / trained.sum()
        error = np.std(drawn.surprise - loss * trained) / trained.mean() / np.sqrt(FLOOR)
        counts = drawn.counts
        # one over an order's probability is, in the mean, how many orders there are
        ordered = np.exp(drawn.surprise - _log_factorial(counts[:, ANSWERS] - 1))
        return {
            "correct": float(np.mean(ordered * 0.5 ** (counts[:, SEEN] - 1))),
            "direct": float(np.mean(ordered * (counts[:, ANSWERS] == counts[:, DIRECT] + 1))),
            "loss": float(loss),
            "loss_error": float(error),
        }


def _log_factorial(n: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max() + 1)))])[n]
