"""The copy test (Part 4.1, arXiv 2512.17351, Figure 5)."""

from dataclasses import dataclass
from math import exp, lgamma
from typing import Any, ClassVar

import numpy as np

from synth.compiled_code import njit
from synth.errors import UserError
from synth.random.numba_rng import draw_key, partial_shuffle, seed_state
from synth.task import Block, Example, Task
from synth.vocab import Vocab


@dataclass(frozen=True)
class CopyTask(Task):
    """Write a random permutation of 1..length, then copy it.

    Example (length=4): `<bos> 3 1 4 2 query 3 1 4 2`. Only the second copy is trained on.
    Source: Part 4.1 (arXiv 2512.17351), Figure 5; the paper's test is length=500.
    Floors: correct = 1 / length!, loss = 0.
    """

    length: int = 30
    """Number of symbols, each of which occurs once in the permutation."""

    name: ClassVar[str] = "copy"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Part 4.1 (arXiv 2512.17351), Figure 5"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"copy-500": {"length": 500}}

    def __post_init__(self) -> None:
        if not 1 <= self.length < 2**15:
            raise UserError(f"copy: length={self.length} must be between 1 and {2**15 - 1}")

    @property
    def query_id(self) -> int:
        """Id of `query`."""
        return self.length + 1

    def vocab(self) -> Vocab:
        return Vocab((*(str(i + 1) for i in range(self.length)), "query"))

    def hardest(self) -> "CopyTask":
        """The task itself: all documents have the same length."""
        return self

    def sample(self, world: None, rng: np.random.Generator, split: str) -> Example:
        return self.sample_block(world, rng, split, 1, labels=True)[0]

    def sample_block(self, world: None, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n documents. Labels on the second copy: answer, 0, and difficulty, its length; both -1 elsewhere."""
        size = 2 * self.length + 2
        tokens = np.empty((n, size), np.int32)
        _write_documents(draw_key(rng), tokens)
        second = np.arange(size) > self.query_id
        offsets, prompts = np.arange(n + 1, dtype=np.int64) * size, np.full(n, self.query_id + 1, np.int64)
        truth = {}
        if labels:
            values = {"answer": 0, "difficulty": self.length}
            truth = {name: np.tile(np.where(second, value, -1).astype(np.int16), n) for name, value in values.items()}
        return Block(tokens.ravel(), offsets, np.tile(second, n), prompts, {"length": np.full(n, self.length)}, truth)

    def is_correct(self, document: np.ndarray) -> bool:
        """Whether a document is a permutation, `query`, and the same permutation."""
        ids = np.asarray(document, np.int64)
        ids = ids[1:] if len(ids) and ids[0] == 0 else ids
        first = ids[: self.length]
        is_permutation = np.array_equal(np.sort(first), np.arange(1, self.length + 1))
        return is_permutation and np.array_equal(ids, np.concatenate([first, [self.query_id], first]))

    def score(self, world: None, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: 1 if the completion begins with the whole permutation (documents have no <eos>); without an example,
        1 if the document is right."""
        if example is None:
            return {"correct": float(self.is_correct(completion))}
        truth = example.tokens[example.prompt_length :]
        return {"correct": float(np.array_equal(completion[: len(truth)], truth))}

    def floors(self, world: None) -> dict[str, float]:
        """correct: of a random permutation; loss: 0, since the second copy is certain."""
        return {"correct": exp(-lgamma(self.length + 1)), "loss": 0.0}


@njit()
def _write_documents(key, tokens):
    """Fill tokens (n, 2 length + 2)."""
    length = tokens.shape[1] // 2 - 1
    state, order = np.empty(1, np.uint64), np.empty(length, np.int64)
    for i in range(len(tokens)):
        seed_state(state, key, i)
        partial_shuffle(state, order, length, length)
        tokens[i, 0] = 0
        tokens[i, 1 : length + 1] = order + 1
        tokens[i, length + 1] = length + 1
        tokens[i, length + 2 :] = order + 1
