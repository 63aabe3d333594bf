"""How likely a model finds each sequence of a closed set after a prompt, exactly: all answers that a question has.

The prompt is read once and the memory of the model is handed on from there, so that a set costs a step for each of its
beginnings and not a reading of the prompt for each of its members.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lm.inference.hooks import evaluating
from lm.layers.cache import State
from lm.model import Decoder, require_causal

ROWS = 256  # sequences that take a step together: more of them push each other's memories out of a CPU's cache
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Trie:
    """Sequences as a tree of their beginnings, shorter ones first. Node 0 is the empty beginning; node i ends in
    tokens[i], its children are the nodes children[i] .. children[i+1]-1, and it is the sequence ends[i] (-1: none).
    depth: tokens of the longest."""

    tokens: np.ndarray
    children: np.ndarray
    ends: np.ndarray
    depth: int

    @classmethod
    def of(cls, sequences: Sequence[Ids]) -> "Trie":
        """The tree of distinct sequences."""
        beginnings = {sequence[:n] for sequence in sequences for n in range(len(sequence) + 1)}
        nodes = sorted(beginnings, key=lambda ids: (len(ids), ids))  # siblings together, in their parents' order
        number = {ids: i for i, ids in enumerate(nodes)}
        parents = [number[ids[:-1]] for ids in nodes[1:]]
        ends = np.full(len(nodes), -1)
        ends[[number[sequence] for sequence in sequences]] = np.arange(len(sequences))
        children = 1 + np.searchsorted(parents, np.arange(len(nodes) + 1))
        return cls(np.array([0, *(ids[-1] for ids in nodes[1:])]), children, ends, len(nodes[-1]))

    @cached_property
    def inner(self) -> np.ndarray:
        """Whether each node has children."""
        return np.diff(self.children) > 0

    def below(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All children of nodes (R,), and for each the row of its parent."""
        counts = self.children[nodes + 1] - self.children[nodes]
        parent = np.repeat(np.arange(len(nodes)), counts)
        before = (np.cumsum(counts) - counts)[parent]
        return parent, self.children[nodes][parent] + np.arange(len(parent)) - before


@torch.inference_mode()
def likelihoods(
    model: Decoder, prompts: Sequence[np.ndarray], trie: Trie, within: float = np.inf
) -> Float[np.ndarray, "n C"]:
    """log P(sequence | prompt) in nats of every sequence of the tree after each prompt of ids (T,).

    within: only those are asked for that are less likely than the likeliest by at most so many nats; what is not
    followed further, as no sequence is likelier than its beginning, has -inf. Raises UserError for an encoder, and when
    prompt and sequence are longer than the context.
    """
    require_causal(model, "the likelihood of an answer")
    lengths = np.array([len(prompt) for prompt in prompts])
    search = _Search(model, trie, len(prompts), within)
    with evaluating(model):
        for length in np.unique(lengths):  # a step is taken at the same position by all
            for rows in _cut(np.flatnonzero(lengths == length)):
                search.begin(np.stack([prompts[i] for i in rows]), rows)
    return search.found


def _cut(numbers: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(numbers), ROWS):
        yield numbers[start : start + ROWS]


class _Search:
    """Down the tree from prompts of one length; at every depth ROWS beginnings at a time, so that memory is bounded."""

    def __init__(self, model: Decoder, trie: Trie, prompts: int, within: float) -> None:
        self.model, self.trie, self.within = model, trie, within
        self.device = model.embed.weight.device
        self.found = np.full((prompts, int(trie.ends.max()) + 1), -np.inf)
        self.best = np.full(prompts, -np.inf)

    def begin(self, prompts: np.ndarray, rows: np.ndarray) -> None:
        """Fill the rows (B,) of `found` for prompts (B, T)."""
        states = self.model.states(len(rows), prompts.shape[1] + self.trie.depth - 1)
        logits = self.model(self._on_device(prompts), states=states)[:, -1]
        self._grow(states, logits, rows, np.zeros_like(rows), np.zeros(len(rows)), prompts.shape[1])

    def _grow(
        self, states: list[State], logits: Tensor, rows: np.ndarray, nodes: np.ndarray, scores: np.ndarray, t: int
    ) -> None:
        """From beginnings `nodes` (R,) after the prompts `rows` (R,), t tokens in all; logits (R, V) of the next."""
        parent, child = self.trie.below(nodes)
        said = logits.float().log_softmax(-1)[self._on_device(parent), self._on_device(self.trie.tokens[child])]
        scores, rows = scores[parent] + said.double().cpu().numpy(), rows[parent]
        self._note(rows, child, scores)
        order = _best_first(rows, scores)
        for part in _cut(order[self.trie.inner[child[order]]]):
            part = part[scores[part] >= self.best[rows[part]] - self.within]  # those before may have found a better one
            if len(part):
                kept = [self._memory(state, parent[part]) for state in states]
                after = self.model.step(self._on_device(self.trie.tokens[child[part]]), kept, t)
                self._grow(kept, after, rows[part], child[part], scores[part], t + 1)

    def _note(self, rows: np.ndarray, nodes: np.ndarray, scores: np.ndarray) -> None:
        """Write down the sequences that are whole."""
        ends = self.trie.ends[nodes]
        whole = ends >= 0
        self.found[rows[whole], ends[whole]] = scores[whole]
        np.maximum.at(self.best, rows[whole], scores[whole])

    def _memory(self, state: State, rows: np.ndarray) -> State:
        picked = self._on_device(rows)
        return State({name: tensor[picked] for name, tensor in state.items()}, state.fixed)

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.device)


def _best_first(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """An order (N,): the likeliest of every row (N,), then the second of every row, and so on."""
    order = np.lexsort((-scores, rows))
    first = np.searchsorted(rows[order], rows[order])
    return order[np.argsort(np.arange(len(order)) - first, kind="stable")]
