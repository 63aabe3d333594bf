"""The copy test: a random order of n symbols, once more (Part 4.1, arXiv 2512.17351, Figure 5).

A document is <bos>, a permutation of 1..n, `query`, and the same permutation again. Every symbol stands once before
the mark, so a model that finds what followed the symbol it just wrote can go on for ever.
"""

from dataclasses import dataclass
from math import exp, lgamma
from typing import Any, ClassVar

import numpy as np
from numba import njit

from synth.errors import UserError
from synth.random.numba_rng import begin, key, permute
from synth.task import Block, Example, Task
from synth.vocab import Vocab


@dataclass(frozen=True)
class CopyTask(Task):
    """length: how many symbols there are, and are copied. The paper's test is length=500."""

    length: int = 30

    name: ClassVar[str] = "copy"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 4.1 (arXiv 2512.17351), Figure 5"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"copy-500": {"length": 500}}

    def __post_init__(self) -> None:
        if not 1 <= self.length < 2**15:
            raise UserError(f"copy: length={self.length} must be between 1 and {2**15 - 1}")

    @property
    def mark(self) -> int:
        """The id of `query`."""
        return self.length + 1

    def vocab(self) -> Vocab:
        return Vocab((*(str(i + 1) for i in range(self.length)), "query"))

    def hardest(self) -> "CopyTask":
        """The same: all documents are of one length."""
        return self

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents; label `answer` is 0 on the second copy and `difficulty` has its length, else both are -1."""
        size = 2 * self.length + 2
        tokens = np.empty((n, size), np.int32)
        _write(key(rng), tokens)
        second = np.arange(size) > self.mark
        offsets, prompts = np.arange(n + 1, dtype=np.int64) * size, np.full(n, self.mark + 1, np.int64)
        truth = {}
        if labels:
            values = {"answer": 0, "difficulty": self.length}
            truth = {name: np.tile(np.where(second, value, -1).astype(np.int16), n) for name, value in values.items()}
        return Block(tokens.ravel(), offsets, np.tile(second, n), prompts, {"length": np.full(n, self.length)}, truth)

    def judged(self, document: np.ndarray) -> bool:
        """Whether a document is a permutation, `query`, and the permutation again."""
        ids = np.asarray(document, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        first = ids[: self.length]
        told = np.array_equal(np.sort(first), np.arange(1, self.length + 1))
        return told and np.array_equal(ids, np.concatenate([first, [self.mark], first]))

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 when all symbols come in their order; what follows them is not looked at, as documents have no
        <eos>. Without an example: 1 for a whole document that is right."""
        if example is None:
            return {"correct": float(self.judged(completion))}
        truth = example.tokens[example.prompt_length :]
        return {"correct": float(np.array_equal(completion[: len(truth)], truth))}

    def floors(self, world: None) -> dict[str, float]:
        """correct: any order of the symbols; loss: 0, as only the second copy is trained on and it is certain."""
        return {"correct": exp(-lgamma(self.length + 1)), "loss": 0.0}


@njit(cache=True, nogil=True)
def _write(key, tokens):
    """Fills documents tokens (n, 2 length + 2)."""
    length = tokens.shape[1] // 2 - 1
    state, order = np.empty(1, np.uint64), np.empty(length, np.int64)
    for i in range(len(tokens)):
        begin(state, key, i)
        permute(state, order, length, length)
        tokens[i, 0] = 0
        tokens[i, 1 : length + 1] = order + 1
        tokens[i, length + 1] = length + 1
        tokens[i, length + 2 :] = order + 1
