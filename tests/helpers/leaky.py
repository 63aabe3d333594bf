"""A task whose best score is known: the answer repeats the question, but for a share of noise."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from synth import Example, Task, UserError, Vocab


@dataclass(frozen=True)
class Leaky(Task):
    """<bos> symbol symbol' <eos>: symbol' is the symbol, or, noise times of 100, any of the four."""

    noise: int = 0
    kind: str = "a"
    length: int = 1

    name: ClassVar[str] = "leaky"
    source: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 100:
            raise UserError(f"noise={self.noise} must lie between 0 and 100")

    def vocab(self) -> Vocab:
        return Vocab(("a", "b", "c", "d"))

    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        symbol = 1 + rng.integers(4)
        answer = symbol if rng.random() >= self.noise / 100 else 1 + rng.integers(4)
        tokens = np.array([0, *[symbol] * self.length, answer, self.vocab().eos], np.int32)
        mask = np.arange(len(tokens)) > self.length
        return Example(tokens, mask, self.length + 1, {"noise": self.noise})

    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        assert example is not None
        return {"right": float(len(completion) > 0 and completion[0] == example.tokens[example.prompt_length])}

    def floors(self, world: Any) -> dict[str, float]:
        return {"loss": 0.0, "right": 0.25}


@dataclass(frozen=True)
class Mute(Leaky):
    """The same without anything that says how good a model is."""

    name: ClassVar[str] = "mute"

    def floors(self, world: Any) -> dict[str, float]:
        return {"loss": 0.0}
