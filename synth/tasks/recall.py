"""Multi-query associative recall (Zoology, arXiv 2312.04927, section 3.1)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from synth.errors import UserError
from synth.random.size_distribution import check_sizes, cumulative_probabilities, size_probabilities
from synth.task import Block, Example, Task
from synth.vocab import Vocab


@dataclass(frozen=True)
class Recall(Task):
    """Name the value that was paired with a key (multi-query associative recall).

    Example (pairs=2, queries=1): `<bos> k53 v14 k5 v27 k53 v14`. Keys of a document are distinct, values independent;
    only the answers are trained on. Sizes n have a probability proportional to 1 / (n + sqrt(pairs)).
    Attention finds the key in one layer, but the value is the next token, so that a second layer or a Canon layer is
    needed (result 1 of Part 4.1).
    Source: Zoology (arXiv 2312.04927), section 3.1; Part 4.1 (arXiv 2512.17351), result 1.
    Floors: correct of any value, context of a random value of the document, loss = 0. All exact.
    """

    pairs: int = 16
    """Largest number of key-value pairs in a document."""
    least: int = 4
    """Smallest number of pairs."""
    queries: int = 4
    """Number of distinct keys queried (all keys, if there are fewer pairs)."""
    keys: int = 64
    """Number of key symbols."""
    values: int = 64
    """Number of value symbols."""

    name: ClassVar[str] = "recall"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "multi-query associative recall (arXiv 2312.04927, section 3.1); Part 4.1, result 1"

    def __post_init__(self) -> None:
        check_sizes("recall", "pairs", self.least, self.pairs)
        if self.keys < self.pairs:
            raise UserError(f"recall: {self.keys} keys cannot be different in {self.pairs} pairs; give keys >= pairs")
        if self.queries < 1 or self.values < 1:
            raise UserError(f"recall: queries={self.queries}, values={self.values} ask for nothing; give at least 1")

    def hardest(self) -> "Recall":
        """The same task with `pairs` pairs in every document, as models are tested."""
        return replace(self, least=self.pairs)

    def vocab(self) -> Vocab:
        """Keys k1, k2, ..., then values v1, v2, ..."""
        return self._vocab

    @cached_property
    def _vocab(self) -> Vocab:
        return Vocab((*(f"k{i + 1}" for i in range(self.keys)), *(f"v{i + 1}" for i in range(self.values))))

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents. Labels on the answers: answer, index of the query, and difficulty, number of pairs; both -1
        elsewhere."""
        key, value, queried, size = self._sample_arrays(rng, n)
        most, queries = self.pairs, queried.shape[1]
        tokens = np.zeros((n, 1 + 2 * most + 2 * queries), np.int32)
        answer = np.full(tokens.shape, -1, np.int16)
        tokens[:, 1 : 1 + 2 * most : 2], tokens[:, 2 : 2 + 2 * most : 2] = key, value
        tokens[:, 1 + 2 * most :: 2] = np.take_along_axis(key, queried, axis=1)
        tokens[:, 2 + 2 * most :: 2] = np.take_along_axis(value, queried, axis=1)
        answer[:, 2 + 2 * most :: 2] = np.arange(queries)
        written = np.ones(tokens.shape, bool)
        written[:, 1 : 1 + 2 * most] = np.repeat(np.arange(most) < size[:, None], 2, axis=1)
        written[:, 1 + 2 * most :] = np.repeat(np.arange(queries) < size[:, None], 2, axis=1)
        offsets = np.concatenate([[0], np.cumsum(written.sum(axis=1))])
        question = answer[written]
        difficulty = np.where(question < 0, -1, np.repeat(size, np.diff(offsets))).astype(np.int16)
        truth = {"answer": question, "difficulty": difficulty} if labels else {}
        return Block(tokens[written], offsets, question >= 0, np.diff(offsets) - 1, {"pairs": size}, truth)

    def _sample_arrays(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ids of keys and of values (n, P), positions (n, Q) of the queried keys, and numbers of pairs (n,)."""
        most, queries = self.pairs, min(self.queries, self.pairs)
        # one row per document, so that documents do not depend on n
        draws = rng.random((n, 1 + self.keys + 2 * most))
        size = self.least + np.searchsorted(cumulative_probabilities(self.least, most), draws[:, 0], side="right")
        key = 1 + np.argsort(draws[:, 1 : 1 + self.keys], axis=1)[:, :most]
        value = 1 + self.keys + (draws[:, 1 + self.keys : 1 + self.keys + most] * self.values).astype(np.int64)
        order = np.where(np.arange(most) < size[:, None], draws[:, 1 + self.keys + most :], 2.0)
        return key, value, np.argsort(order, axis=1)[:, :queries], size

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 if the completion is the value of the prompt's last key and at most <eos>; without an example, the
        last value of the document counts."""
        ids = np.asarray(completion, np.int64)
        document = ids if example is None else np.concatenate([example.prompt, ids])
        if len(document) and document[-1] == self._vocab.eos:
            document = document[:-1]
        truth = self.parse(document[:-1])
        return {"correct": float(truth is not None and len(document) > 0 and document[-1] == truth)}

    def parse(self, prompt: np.ndarray) -> int | None:
        """Id of the value of the last key of a prompt, with or without <bos>; None if it is malformed."""
        ids = np.asarray(prompt, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        keys, values = ids[::2], ids[1::2]
        if len(ids) % 2 == 0 or not self._are_pairs(keys, values):
            return None
        matches = np.flatnonzero(keys[:-1] == keys[-1])
        return int(values[matches[0]]) if len(matches) else None

    def _are_pairs(self, keys: np.ndarray, values: np.ndarray) -> bool:
        largest = self.keys + self.values
        return bool(((keys > 0) & (keys <= self.keys)).all() and ((values > self.keys) & (values <= largest)).all())

    def floors(self, world: None) -> dict[str, float]:
        """Exact. correct: of a random value; context: of a random value of the document; loss: 0."""
        sizes, shares = np.arange(self.least, self.pairs + 1), size_probabilities(self.least, self.pairs)
        context = shares @ (1 / sizes + (1 - 1 / sizes) / self.values)
        return {"correct": 1 / self.values, "context": float(context), "loss": 0.0}
