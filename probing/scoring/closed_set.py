"""Exact log-likelihoods of all sequences of a closed set after a prompt, such as all answers to a question.

The prompt is read once and the cache is reused, so the cost is one decoding step per distinct prefix of the set instead
of one forward pass per sequence.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lm.inference.hooks import eval_mode
from lm.layers.cache import LayerCache
from lm.model import Decoder, require_causal

BATCH_SIZE = 256  # sequences decoded together: with more, their model caches do not fit a CPU's cache
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Trie:
    """Prefix tree of token sequences, in breadth-first order. Node 0 is the empty prefix; node i ends in tokens[i], its
    children are the nodes child_offsets[i] .. child_offsets[i+1]-1, and sequence_ids[i] is the index of the sequence
    that it completes, or -1. depth: length of the longest sequence."""

    tokens: np.ndarray
    child_offsets: np.ndarray
    sequence_ids: np.ndarray
    depth: int

    @classmethod
    def from_sequences(cls, sequences: Sequence[Ids]) -> "Trie":
        """The tree of distinct sequences."""
        prefixes = {sequence[:n] for sequence in sequences for n in range(len(sequence) + 1)}
        nodes = sorted(prefixes, key=lambda ids: (len(ids), ids))  # siblings adjacent, in the order of their parents
        number = {ids: i for i, ids in enumerate(nodes)}
        parents = [number[ids[:-1]] for ids in nodes[1:]]
        ends = np.full(len(nodes), -1)
        ends[[number[sequence] for sequence in sequences]] = np.arange(len(sequences))
        children = 1 + np.searchsorted(parents, np.arange(len(nodes) + 1))
        return cls(np.array([0, *(ids[-1] for ids in nodes[1:])]), children, ends, len(nodes[-1]))

    @cached_property
    def has_children(self) -> np.ndarray:
        """Whether each node has children."""
        return np.diff(self.child_offsets) > 0

    def children_of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All children of nodes (R,): for each the row of its parent, and the child."""
        counts = self.child_offsets[nodes + 1] - self.child_offsets[nodes]
        parent = np.repeat(np.arange(len(nodes)), counts)
        before = (np.cumsum(counts) - counts)[parent]
        return parent, self.child_offsets[nodes][parent] + np.arange(len(parent)) - before


@torch.inference_mode()
def score_closed_set(
    model: Decoder, prompts: Sequence[np.ndarray], trie: Trie, beam_nats: float = np.inf
) -> Float[np.ndarray, "n C"]:
    """log P(sequence | prompt) in nats of each of the C sequences after each of the n prompts of ids (T,).

    beam_nats: prune prefixes that are less likely than the best sequence by more than this; pruned sequences get -inf.
    All sequences within beam_nats of the best are exact, since a sequence is never likelier than its prefix. Raises
    UserError for an encoder, and if prompt and sequence do not fit the context.
    """
    require_causal(model, "the likelihood of an answer")
    lengths = np.array([len(prompt) for prompt in prompts])
    search = _Search(model, trie, len(prompts), beam_nats)
    with eval_mode(model):
        for length in np.unique(lengths):  # a decoding step is at one position for all rows
            for rows in _split_batches(np.flatnonzero(lengths == length)):
                search.search_prompts(np.stack([prompts[i] for i in rows]), rows)
    return search.log_probabilities


def _split_batches(numbers: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(numbers), BATCH_SIZE):
        yield numbers[start : start + BATCH_SIZE]


class _Search:
    """Depth-first search of the tree after prompts of one length, BATCH_SIZE prefixes at a time to bound memory."""

    def __init__(self, model: Decoder, trie: Trie, num_prompts: int, beam_nats: float) -> None:
        self.model, self.trie, self.beam_nats = model, trie, beam_nats
        self.device = model.embed.weight.device
        self.log_probabilities = np.full((num_prompts, int(trie.sequence_ids.max()) + 1), -np.inf)
        self.best_log_probability = np.full(num_prompts, -np.inf)

    def search_prompts(self, prompts: np.ndarray, rows: np.ndarray) -> None:
        """Fill the rows (B,) of `log_probabilities` for prompts (B, T)."""
        caches = self.model.empty_caches(len(rows), prompts.shape[1] + self.trie.depth - 1)
        logits = self.model(self._on_device(prompts), caches=caches)[:, -1]
        self._expand(caches, logits, rows, np.zeros_like(rows), np.zeros(len(rows)), prompts.shape[1])

    def _expand(
        self, caches: list[LayerCache], logits: Tensor, rows: np.ndarray, nodes: np.ndarray, scores: np.ndarray, t: int
    ) -> None:
        """Score the children of `nodes` (R,) after the prompts `rows` (R,), given logits (R, V) at position t - 1."""
        parent, child = self.trie.children_of(nodes)
        log_probs = logits.float().log_softmax(-1)[self._on_device(parent), self._on_device(self.trie.tokens[child])]
        scores, rows = scores[parent] + log_probs.double().cpu().numpy(), rows[parent]
        self._record_complete(rows, child, scores)
        order = _best_first(rows, scores)
        for part in _split_batches(order[self.trie.has_children[child[order]]]):
            # those before may have found a better one
            part = part[scores[part] >= self.best_log_probability[rows[part]] - self.beam_nats]
            if len(part):
                kept = [self._select_cache_rows(cache, parent[part]) for cache in caches]
                after = self.model.step(self._on_device(self.trie.tokens[child[part]]), kept, t)
                self._expand(kept, after, rows[part], child[part], scores[part], t + 1)

    def _record_complete(self, rows: np.ndarray, nodes: np.ndarray, scores: np.ndarray) -> None:
        """Store the scores of nodes that complete a sequence."""
        ids = self.trie.sequence_ids[nodes]
        complete = ids >= 0
        self.log_probabilities[rows[complete], ids[complete]] = scores[complete]
        np.maximum.at(self.best_log_probability, rows[complete], scores[complete])

    def _select_cache_rows(self, cache: LayerCache, rows: np.ndarray) -> LayerCache:
        picked = self._on_device(rows)
        return LayerCache({name: tensor[picked] for name, tensor in cache.items()}, cache.fixed)

    def _on_device(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.device)


def _best_first(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Order (N,) of prefixes: the best of every row, then the second best of every row, and so on."""
    order = np.lexsort((-scores, rows))
    first = np.searchsorted(rows[order], rows[order])
    return order[np.argsort(np.arange(len(order)) - first, kind="stable")]
