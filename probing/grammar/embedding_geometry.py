"""Whether word embeddings cluster by the bags of words of an implicit grammar: Part 1 (arXiv 2305.13673), result 10.

All that matters of a word there is how often each terminal emits it, so words with similar memberships should have
similar embeddings. docs/tasks/implicit.md has an example.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from lm.model import Decoder
from probing.scoring.metrics import mean_or_nan
from synth import Task, UserError
from synth.tasks.implicit import ImplicitCfg, memberships


@dataclass(frozen=True)
class BagGeometry:
    """num_plotted_words: number of words whose coordinates in the plane are returned, for a plot."""

    num_plotted_words: int = field(default=0, metadata={"identity": "pictured"})

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.num_plotted_words < 0:
            raise UserError(f"num_plotted_words={self.num_plotted_words} is no number of words; give 0 or more")

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row of statistic "geometry" with the columns of `geometry` and chance_valid, the share of valid sentences
        among shuffled ones; then a row of statistic "word" for each of the first `num_plotted_words` words in a bag:
        word, bags (their terminals, as "{1 3}"), x and y (see `plane`), and x_share, y_share, the explained variance of
        the two axes.

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
        if not self.num_plotted_words:
            return []
        coordinates, shares = plane(vectors)
        rows = []
        for n, (word, (x, y)) in enumerate(zip(words[: self.num_plotted_words], coordinates.tolist(), strict=False)):
            bags = " ".join(t for t, chance in zip(terminals, chances[:, n], strict=True) if chance)
            rows.append({"statistic": "word", "word": word, "bags": f"{{{bags}}}", "x": x, "y": y})
        return [row | {"x_share": shares[0], "y_share": shares[1]} for row in rows]


def geometry(vectors: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    """Compare vectors (n, D) of n >= 3 words with their memberships chances (K, n) = Pr[word | terminal].

    Similarity of two words is the cosine of their vectors after centering. purity: share of words whose nearest
    neighbour is in exactly the same bags; purity_chance: the same for a random other word. same, shared, apart: mean
    similarity of two words in the same bags, in different bags with some in common, and without a common bag (NaN if
    there are no such pairs). agreement: correlation, over pairs of words, of similarity with the cosine of the words'
    memberships, normalized to sum to 1 over terminals; 0 if the vectors carry no information about bags.
    """
    similarity = cosines(vectors - vectors.mean(0))
    pairs = np.triu_indices(len(vectors), 1)
    inside = chances.T > 0
    equal = np.all(inside[:, None] == inside, -1)
    common = np.any(inside[:, None] & inside, -1)
    others = similarity - 2 * np.eye(len(vectors))  # no word is its own neighbour
    truth = cosines((chances / chances.sum(0)).T)
    groups = {"same": equal, "shared": common & ~equal, "apart": ~common}
    return {
        "purity": float(equal[np.arange(len(vectors)), others.argmax(1)].mean()),
        "purity_chance": float(equal[pairs].mean()),
        **{name: mean_or_nan(similarity[pairs][group[pairs]]) for name, group in groups.items()},
        "agreement": float(np.corrcoef(similarity[pairs], truth[pairs])[0, 1]),
    }


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Cosine similarities (n, n) of vectors (n, D); 0 for a zero vector."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def plane(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, 2) of vectors (n, D) on their first two principal components, and the explained variance (2,) as
    shares. The sign of a component makes its largest entry in size positive."""
    centred = vectors - vectors.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    return centred @ axes.T, sizes[:2] ** 2 / (sizes**2).sum()
