"""Do the embeddings of words gather by the bags they are drawn from? Part 1 (arXiv 2305.13673), result 10.

Every row of a model's input table is the vector of a word. In an implicit grammar nothing about a word matters but how
often each terminal writes it, so words of like memberships should have like vectors. docs/tasks/implicit.md has an
example.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lm.model import Decoder
from synth import Task, UserError
from synth.tasks.implicit import ImplicitCfg, memberships


@dataclass(frozen=True)
class BagGeometry:
    """pictured: how many words' places in the plane are given, for a drawing; 0 for none."""

    pictured: int = 0

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.pictured < 0:
            raise UserError(f"pictured={self.pictured} is no number of words; give 0 or more")

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row of statistic "geometry" with the columns of `geometry` and chance_valid, the share of sentences of
        shuffled words that are valid; then a row of statistic "word" for each of the first `pictured` words that stand
        in a bag: word, bags (their terminals, as "{1 3}"), x and y (see `plane`) and x_share, y_share, the parts of the
        vectors' variance along these two.

        Raises UserError for a task without bags, or a model with another vocabulary.
        """
        if not isinstance(task, ImplicitCfg):
            raise UserError(f"{task.name} has no bags of words; measure their geometry on implicit_cfg")
        vocab, world = task.vocab(), task.world(data_seed)
        table = model.embed.weight.detach().float().cpu().numpy()
        if len(table) != vocab.size:
            raise UserError(
                f"the model has {len(table)} tokens and the task {vocab.size}; measure it on the task it was trained on"
            )
        chances = memberships(world)
        used = np.flatnonzero(chances.any(0))
        vectors, chances = table[1 + used], chances[:, used]
        row = {"statistic": "geometry", **geometry(vectors, chances), "chance_valid": task.floors(world)["valid"]}
        return [row, *self._words(vectors, chances, [vocab.symbols[i] for i in used], world.levels[-2])]

    def _words(
        self, vectors: np.ndarray, chances: np.ndarray, words: list[str], terminals: tuple[str, ...]
    ) -> list[dict[str, Any]]:
        if not self.pictured:
            return []
        places, shares = plane(vectors)
        found = []
        for n, (word, (x, y)) in enumerate(zip(words[: self.pictured], places.tolist(), strict=False)):
            bags = " ".join(t for t, chance in zip(terminals, chances[:, n], strict=True) if chance)
            found.append({"statistic": "word", "word": word, "bags": f"{{{bags}}}", "x": x, "y": y})
        return [row | {"x_share": shares[0], "y_share": shares[1]} for row in found]


def geometry(vectors: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    """How vectors (n, D) of n >= 3 words lie to their memberships chances (K, n) = Pr[word | terminal].

    Likeness of two words is the cosine of their vectors after the mean vector is taken away.
    purity: share of words whose most alike other word is in exactly the same bags; purity_chance: for any other word;
    same, shared, apart: mean likeness of two words in the same bags, in different ones of which they share some, and
    without a common one (NaN where there are no such pairs); agreement: correlation, over pairs of words, of likeness
    with the cosine of memberships, each word's share over terminals (what its sight says of the terminal, but for how
    common terminals are): 0 where vectors know nothing of bags.
    """
    likeness = cosines(vectors - vectors.mean(0))
    pairs = np.triu_indices(len(vectors), 1)
    inside = chances.T > 0
    equal = np.all(inside[:, None] == inside, -1)
    common = np.any(inside[:, None] & inside, -1)
    others = likeness - 2 * np.eye(len(vectors))  # nobody is their own neighbour
    truth = cosines((chances / chances.sum(0)).T)
    groups = (equal, common & ~equal, ~common)
    same, shared, apart = (_mean(likeness[pairs][group[pairs]]) for group in groups)
    return {
        "purity": float(equal[np.arange(len(vectors)), others.argmax(1)].mean()),
        "purity_chance": float(equal[pairs].mean()),
        "same": same,
        "shared": shared,
        "apart": apart,
        "agreement": float(np.corrcoef(likeness[pairs], truth[pairs])[0, 1]),
    }


def cosines(vectors: np.ndarray) -> np.ndarray:
    """(n, n) cosines of vectors (n, D); 0 for a vector of zeros."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) of vectors (n, D) along their two principal components, and the parts (2,) of the variance there.
    A component's sign is such that its largest entry is positive."""
    centred = vectors - vectors.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    return centred @ axes.T, sizes[:2] ** 2 / (sizes**2).sum()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
