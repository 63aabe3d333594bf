"""Models with planted knowledge of a small world of people, and that world."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.config import ModelConfig
from lm.layers.cache import LayerCache
from lm.model import Decoder
from synth.tasks.bios import BioS

SMALL: dict[str, Any] = {
    "people": 12, "questions": 2, "first": 8, "middle": 8, "last": 8, "years": 4, "months": 2, "days": 2, "cities": 8,
    "universities": 8, "majors": 4, "employers": 8, "templates": 3, "permute": 1,
}  # fmt: skip
TASK = BioS(**SMALL)


class Planted(Decoder):
    """Its next-token probabilities are a function of the whole prefix: `after` maps prefixes (bytes of int64 ids) to
    {token: probability}; after any other prefix all tokens are alike."""

    def __init__(self, vocab_size: int, after: dict[bytes, dict[int, float]]) -> None:
        super().__init__(ModelConfig(1, 1, 2, mlp="none"), vocab_size)
        self.after = after

    @classmethod
    def of(cls, vocab_size: int, documents: Iterable[np.ndarray]) -> "Planted":
        """Knows these documents by heart: after a beginning of some, what follows in the last of them."""
        rows = [np.asarray(document, np.int64) for document in documents]
        return cls(vocab_size, {d[:t].tobytes(): {int(d[t]): 1.0} for d in rows for t in range(1, len(d))})

    def empty_caches(self, rows: int, length: int) -> list[LayerCache]:
        return [LayerCache({"tokens": torch.zeros(rows, length, dtype=torch.long)})]

    def forward(self, inputs: Tensor, documents: Any = None, caches: Any = None, aux_losses: Any = None) -> Tensor:
        if caches:
            caches[0]["tokens"][:, : inputs.shape[1]] = inputs
        return torch.stack([torch.stack([self._next(row[: t + 1]) for t in range(len(row))]) for row in inputs])

    def step(self, tokens: Tensor, caches: list[LayerCache], t: int) -> Tensor:
        caches[0]["tokens"][:, t] = tokens
        return torch.stack([self._next(row[: t + 1]) for row in caches[0]["tokens"]])

    def _next(self, prefix: Tensor) -> Tensor:
        found = torch.zeros(self.vocab_size)
        if following := self.after.get(prefix.numpy().tobytes()):
            found += np.log(1e-12)
            for token, probability in following.items():
                found[token] = np.log(probability)
        return found


class Filling(Decoder):
    """An encoder that says at every position of a document what `truth` says of the whole of it (its bytes)."""

    def __init__(self, vocab_size: int, truth: Callable[[bytes], np.ndarray | None]) -> None:
        super().__init__(ModelConfig(1, 1, 2, mlp="none", causal=False), vocab_size)
        self.truth = truth

    def forward(self, inputs: Tensor, documents: Any = None, caches: Any = None, aux_losses: Any = None) -> Tensor:
        found = torch.zeros(*inputs.shape, self.vocab_size)
        for i, row in enumerate(inputs):
            real = row[documents[i] > 0].numpy()
            told = self.truth(real.tobytes())
            if told is not None:
                found[i, np.arange(len(told)), told.astype(int)] = 30.0
        return found
