"""What any reader of a sentence, or of its prefix, can know of its tree: the ceilings of the grammar's probes.

The most probable answer under the exact posterior (synth.cfg.posterior) is right more often than any other. A causal
model's state at a position has seen the prefix; the probe that combines all positions, and an encoder's states, have
seen the sentence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lm.validation import check_at_least
from synth import Corpus, Task, UserError, cfg
from synth.tasks.cfg import Cfg


@dataclass(frozen=True)
class TreeCeilings:
    """Accuracy of the exact posterior on test sentences, given the whole sentence and given the prefix up to each
    position: of the ancestor at every position, of the symbol that ended where a subtree ends, and of whether one
    ends."""

    sentences: int = 1000

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_at_least(self, 1, "sentences")

    def measure(self, model: Any, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """Rows with level (the root is 1), given (sentence or prefix), target (ancestor, end or boundary), accuracy and
        n. The model is not asked. Raises UserError for a task without a grammar."""
        if not isinstance(task, Cfg):
            raise UserError(f"ceilings of parse trees need a task whose truth is a grammar; {task.name} has none")
        grammar = task.world(data_seed)
        block = Corpus(task, data_seed, "test").documents(0, self.sentences, labels=True)
        inside = block.labels["boundary"] >= 0
        lengths = block.lengths - 2
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        evidence, _ = cfg.one_hot_evidence(grammar, block.tokens[inside] - 1, offsets)
        ancestors, boundary = block.labels["ancestor"][inside], block.labels["boundary"][inside]
        return [
            {"given": "prefix" if prefix else "sentence", **row}
            for prefix in (False, True)
            for row in _rows(cfg.posterior(grammar, evidence, offsets, prefix), ancestors, boundary)
        ]


def _rows(found: Any, ancestors: np.ndarray, boundary: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of each level between root and terminals, from posteriors (N, L, S) and labels (N, L) and (N,)."""
    for level in range(1, ancestors.shape[1] - 1):
        ends = boundary <= level + 1
        read = found.ancestors[:, level].argmax(-1) == ancestors[:, level]
        ended = found.ends[:, level].argmax(-1) == ancestors[:, level]
        told = (found.ends[:, level].sum(-1) > 0.5) == ends
        for target, hits in (("ancestor", read), ("end", ended[ends]), ("boundary", told)):
            yield {"level": level + 1, "target": target, "accuracy": float(hits.mean()), "n": len(hits)}
