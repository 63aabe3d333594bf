"""Which symbol has ended? Probes of single states at and beside the ends of subtrees, solved exactly.

Part 1 (arXiv 2305.13673), section 4.3, Figure 7: the diagonal probe reads the state at the end of a subtree, the
tridiagonal one also its two neighbours. With fixed positions both are logistic regressions: their optimum is unique, so
that no number of updates or learning rate enters the result.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.validation import check_at_least
from probing.grammar.ancestor_probe import require_grammar_model
from probing.grammar.parse_states import HiddenStateSampler, ProbeTarget
from probing.linear.logistic import logistic
from probing.linear.position_probe import StateBatch
from probing.scoring.metrics import score
from synth import Task, UserError

NEIGHBOURS = "-1..1"  # the column `offset` of the probe that reads the end and its two neighbours
BATCH_SIZE, CHUNK = 60, 8  # sentences of a batch, and batches that are read at a time


@dataclass(frozen=True)
class EndRows:
    """Ends of subtrees of one level: states (Y, N, O, D) of Y layers at each of O offsets from the end; labels (N,),
    the symbol that ended; sentences (N,), a number of each end's sentence."""

    states: Float[Tensor, "Y N O D"]
    labels: Int[np.ndarray, " N"]
    sentences: Int[np.ndarray, " N"]


@dataclass(frozen=True)
class EndProbe:
    """Logistic regressions from the state at each offset from a subtree's end, and from the end and its neighbours
    together, to the symbol that ended; for every layer and level.

    layers: names or patterns of lm.inference.activations. reach: largest distance from the end; ends nearer than that
    to either side of the sentence are left out for all offsets, so that all offsets are compared on the same ends (the
    neighbours too). max_ends: most ends of a level to fit on. sentences: held-out sentences for the accuracy.
    inverse_regularization: C of scikit-learn's LogisticRegression. shuffled: the control, with the labels of another
    sentence.
    """

    layers: tuple[str, ...] = ("embed", "block.*")
    reach: int = 2
    max_ends: int = 20_000
    sentences: int = 2000
    inverse_regularization: float = 1.0
    shuffled: bool = False

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_at_least(self, 0, "reach")
        check_at_least(self, 1, "max_ends", "sentences")
        if not self.inverse_regularization > 0:
            raise UserError("inverse_regularization must be above 0; give 1 for scikit-learn's default")

    def tokens(self, task: Task) -> int:
        """Estimated number of tokens read, for the cost of a dry run: at most two ends of the highest level a
        sentence."""
        return int((self.max_ends / 2 + self.sentences) * (task.world(0).mean_length + 1))

    def measure(self, model: nn.Module, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each layer, level and offset ("-1..1": the end and its neighbours), with the columns of
        probing.scoring.metrics.score on the test ends and converged. Levels count from the root, which is 1.

        Raises UserError as AncestorProbe does.
        """
        task = require_grammar_model(model, task)
        target = ProbeTarget(ends_only=True, shuffled=self.shuffled)
        sampler = HiddenStateSampler(model, task, data_seed, self.layers, target, BATCH_SIZE, CHUNK)
        classes = target.classes(task)
        most = -(-2 * self.max_ends // BATCH_SIZE)  # nearly every sentence has an end of every level within it
        training = self._collect(sampler.training_batches(most), len(classes), self.max_ends)
        test = self._collect(sampler.test_batches(self.sentences), len(classes))
        return [
            {"layer": name, "level": level + 2, **row}
            for level, count in enumerate(classes)
            for name, row in self._level_rows(sampler.layers, training[level], test[level], count)
        ]

    def _collect(self, batches: Iterable[StateBatch], levels: int, most: int | None = None) -> list[EndRows]:
        """The ends of each level in the batches; until every level has `most` of them, if given."""
        parts: list[list[EndRows]] = [[] for _ in range(levels)]
        counts, first = np.zeros(levels, int), 0
        for batch in batches:
            for level in range(levels):
                if most is None or counts[level] < most:
                    parts[level].append(self._ends(batch, level, first))
                    counts[level] += len(parts[level][-1].labels)
            first += len(batch.lengths)
            if most is not None and counts.min() >= most:
                break
        return [_join(level_parts, most) for level_parts in parts]

    def _ends(self, batch: StateBatch, level: int, first: int) -> EndRows:
        """The ends of a batch that have `reach` positions on either side within the sentence."""
        length = batch.states.shape[2]
        steps = torch.arange(length, device=batch.labels.device)
        inside = (steps >= self.reach) & (steps < batch.lengths[:, None] - self.reach)
        row, at = ((batch.labels[level] >= 0) & inside).nonzero(as_tuple=True)
        offsets = torch.arange(-self.reach, self.reach + 1, device=at.device)
        states = batch.states[:, row[:, None], at[:, None] + offsets]
        return EndRows(states.cpu(), batch.labels[level, row, at].cpu().numpy(), first + row.cpu().numpy())

    def _level_rows(
        self, layers: tuple[str, ...], training: EndRows, test: EndRows, classes: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        if not len(training.labels) or not len(test.labels):
            return
        names = list(product(layers, (str(offset) for offset in range(-self.reach, self.reach + 1))))
        single, tested = (part.states.transpose(1, 2).flatten(0, 1) for part in (training, test))
        yield from self._fit(names, single, tested, training, test, classes)
        if self.reach:
            near = slice(self.reach - 1, self.reach + 2)
            joined, tested = (part.states[:, :, near].flatten(2) for part in (training, test))
            yield from self._fit([(layer, NEIGHBOURS) for layer in layers], joined, tested, training, test, classes)

    def _fit(
        self, names: list[tuple[str, str]], features: Tensor, test_features: Tensor,
        training: EndRows, test: EndRows, classes: int,
    ) -> Iterator[tuple[str, dict[str, Any]]]:  # fmt: skip
        """A row for each of S probes, named by layer and offset, with features (S, N, D)."""
        labels = torch.from_numpy(training.labels)
        probes = logistic(features, labels, classes, self.inverse_regularization)
        predicted = probes(test_features).cpu().numpy()
        for (layer, offset), answers, converged in zip(names, predicted, probes.converged, strict=True):
            found = score(test.labels, answers, test.sentences)
            yield layer, {"offset": offset, **found, "converged": bool(converged)}


def _join(parts: list[EndRows], most: int | None) -> EndRows:
    states = torch.cat([part.states for part in parts], 1)[:, :most]
    labels, sentences = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "sentences"))
    return EndRows(states, labels[:most], sentences[:most])
