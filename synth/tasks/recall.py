"""Associative recall: which value stood behind a key (the multi-query form of Zoology, arXiv 2312.04927, section 3.1).

A document is <bos>, pairs key value, then some of the keys again, each followed by its value. Result 1 of Part 4.1
(arXiv 2512.17351) is about this: attention finds the key in one layer, but the value is the token after it, so that it
takes a second layer, or a Canon layer that brings the key to its neighbour.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from synth.errors import UserError
from synth.random.size_distribution import chances, check_sizes, cumulative
from synth.task import Block, Example, Task
from synth.vocab import Vocab


@dataclass(frozen=True)
class Recall(Task):
    """pairs: the most pairs of a document, P; least: the fewest. Sizes n have probability ~ 1 / (n + sqrt(P)).
    queries: how many different keys are asked for (all of them, where there are fewer pairs).
    keys, values: how many there are; keys of a document are all different, values are drawn independently.
    """

    pairs: int = 16
    least: int = 4
    queries: int = 4
    keys: int = 64
    values: int = 64

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
        """The same task with `pairs` pairs in every document."""
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
        """n documents. Labels: answer, on the answer to question q the number q, and difficulty, there the number of
        pairs; both -1 elsewhere. Only answers are trained on."""
        key, value, asked, size = self._draw(rng, n)
        most, queries = self.pairs, asked.shape[1]
        tokens = np.zeros((n, 1 + 2 * most + 2 * queries), np.int32)
        answer = np.full(tokens.shape, -1, np.int16)
        tokens[:, 1 : 1 + 2 * most : 2], tokens[:, 2 : 2 + 2 * most : 2] = key, value
        tokens[:, 1 + 2 * most :: 2] = np.take_along_axis(key, asked, axis=1)
        tokens[:, 2 + 2 * most :: 2] = np.take_along_axis(value, asked, axis=1)
        answer[:, 2 + 2 * most :: 2] = np.arange(queries)
        written = np.ones(tokens.shape, bool)
        written[:, 1 : 1 + 2 * most] = np.repeat(np.arange(most) < size[:, None], 2, axis=1)
        written[:, 1 + 2 * most :] = np.repeat(np.arange(queries) < size[:, None], 2, axis=1)
        offsets = np.concatenate([[0], np.cumsum(written.sum(axis=1))])
        question = answer[written]
        difficulty = np.where(question < 0, -1, np.repeat(size, np.diff(offsets))).astype(np.int16)
        truth = {"answer": question, "difficulty": difficulty} if labels else {}
        return Block(tokens[written], offsets, question >= 0, np.diff(offsets) - 1, {"pairs": size}, truth)

    def _draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ids of keys and of values (n, P), the places (n, Q) of the keys asked for, and how many pairs count (n,)."""
        most, queries = self.pairs, min(self.queries, self.pairs)
        # a row of numbers for each document, so that the first rows are the same however many follow
        draws = rng.random((n, 1 + self.keys + 2 * most))
        size = self.least + np.searchsorted(cumulative(self.least, most), draws[:, 0], side="right")
        key = 1 + np.argsort(draws[:, 1 : 1 + self.keys], axis=1)[:, :most]
        value = 1 + self.keys + (draws[:, 1 + self.keys : 1 + self.keys + most] * self.values).astype(np.int64)
        order = np.where(np.arange(most) < size[:, None], draws[:, 1 + self.keys + most :], 2.0)
        return key, value, np.argsort(order, axis=1)[:, :queries], size

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 when the completion is the value of the key that the prompt ends with, and no more than <eos>.

        A whole document counts by what it says after its last key.
        """
        ids = np.asarray(completion, np.int64)
        document = ids if example is None else np.concatenate([example.prompt, ids])
        if len(document) and document[-1] == self._vocab.eos:
            document = document[:-1]
        truth = self.read(document[:-1])
        return {"correct": float(truth is not None and len(document) > 0 and document[-1] == truth)}

    def read(self, prompt: np.ndarray) -> int | None:
        """The id of the value asked for by a prompt, <bos> or not in front; None where it asks for none."""
        ids = np.asarray(prompt, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        keys, values = ids[::2], ids[1::2]
        if len(ids) % 2 == 0 or not self._are_pairs(keys, values):
            return None
        told = np.flatnonzero(keys[:-1] == keys[-1])
        return int(values[told[0]]) if len(told) else None

    def _are_pairs(self, keys: np.ndarray, values: np.ndarray) -> bool:
        largest = self.keys + self.values
        return bool(((keys > 0) & (keys <= self.keys)).all() and ((values > self.keys) & (values <= largest)).all())

    def floors(self, world: None) -> dict[str, float]:
        """Exact. correct: any value; context: a value of the document, each place as likely, as far as one can get
        without knowing which value stands behind which key; loss: nothing that is trained on is uncertain."""
        sizes, shares = np.arange(self.least, self.pairs + 1), chances(self.least, self.pairs)
        context = shares @ (1 / sizes + (1 - 1 / sizes) / self.values)
        return {"correct": 1 / self.values, "context": float(context), "loss": 0.0}
