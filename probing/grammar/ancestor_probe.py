"""Probe every layer for the parse tree: ancestors and subtree boundaries, decoded by linear probes.

Part 1 (arXiv 2305.13673), section 4.2 and 4.3, Figures 5 to 7. docs/probes.md explains it with an example.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from lm.inference.hooks import find_hook_points
from lm.model import Decoder
from lm.validation import check_at_least, check_choice
from probing.grammar.parse_states import HiddenStateSampler, ProbeTarget
from probing.linear.position_probe import PositionProbes, StateBatch, fit_position_probes
from probing.scoring.metrics import accuracy_row, final_loss, has_converged
from synth import Task, UserError
from synth.tasks.cfg import Cfg

Target = Literal["ancestor", "boundary"]
Mode = Literal["full", "diagonal", "tridiagonal"]
MAX_OFFSET = {"full": None, "diagonal": 0, "tridiagonal": 1}


@dataclass(frozen=True)
class AncestorProbe:
    """One probe for every layer and every level of nonterminals between root and terminals, all fitted in one pass.

    target: the ancestor of a position on the level ("ancestor"), or whether a subtree of the level ends there
    ("boundary"). mode: positions the probe reads: all, its own ("diagonal"), or also the two beside it ("tridiagonal").
    ends_only: predict only where a subtree of the level ends, as the paper does for the last two modes. layers: names
    or patterns of lm.inference.activations. shuffled: the control, with the labels of another sentence.

    Defaults are the paper's: 16 heads of width 1024, 30,000 updates on 60 fresh sentences each. sentences: held-out
    sentences for the accuracy.
    """

    target: Target = "ancestor"
    mode: Mode = "full"
    ends_only: bool = field(default=False, metadata={"identity": "ends"})
    layers: tuple[str, ...] = ("embed", "block.*")
    heads: int = 16
    position_width: int = 1024
    updates: int = 30_000
    batch_size: int = field(default=60, metadata={"identity": "batch"})
    lr: float = field(default=3e-3, metadata={"identity": "rate"})
    sentences: int = 5000
    shuffled: bool = False

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_choice("target", self.target, Target)
        check_choice("mode", self.mode, Mode)
        check_at_least(self, 1, "heads", "position_width", "updates", "batch_size", "sentences")
        if not self.lr > 0:
            raise UserError(f"lr={self.lr} trains nothing; give a learning rate above 0")
        if self.target == "boundary" and self.ends_only:
            raise UserError("at subtree ends the boundary is known; give ends_only=False with target=boundary")

    def tokens(self, task: Task) -> int:
        """Estimated number of tokens read, for the cost of a dry run."""
        return int((self.updates * self.batch_size + self.sentences) * (task.world(0).mean_length + 1))

    def measure(self, model: nn.Module, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each layer and level, with the columns of probing.scoring.metrics.accuracy_row (a group is a
        distinct sentence), loss at the end of the fit (nats) and converged. Levels count from the root, which is 1.

        Raises UserError for a task without a grammar, a grammar of fewer than three levels, a model with another
        vocabulary or too short a context, and an unknown layer.
        """
        task = require_grammar_model(model, task)
        target = ProbeTarget(self.target == "boundary", self.ends_only, self.shuffled)
        sampler = HiddenStateSampler(model, task, data_seed, self.layers, target, self.batch_size)
        probes = PositionProbes(
            len(sampler.layers), target.classes(task), sampler.width, task.world().max_length, self.heads,
            self.position_width, MAX_OFFSET[self.mode], seed,
        ).to(sampler.device)  # fmt: skip
        losses = fit_position_probes(probes, sampler.training_batches(self.updates), self.updates, self.lr)
        *per_document, confusion = _predict_and_count(probes, sampler.test_batches(self.sentences))
        hits, counts = (_sum_by_sentence(part, sampler.test_sentence_ids) for part in per_document)
        loss, converged = final_loss(losses), has_converged(losses)
        return [
            {"layer": name, "level": level + 2, **accuracy_row(hits[y, level], counts[level], confusion[y, level])}
            | {"loss": float(loss[y, level]), "converged": bool(converged[y, level])}
            for y, name in enumerate(sampler.layers)
            for level in range(len(counts))
        ]


def require_grammar_model(model: nn.Module, task: Task) -> Cfg:
    """Return the task if it has a grammar whose vocabulary is the model's and levels to probe, else raise UserError."""
    if not isinstance(task, Cfg):
        raise UserError(f"ancestors need a task whose sentences have a parse tree; {task.name} has none")
    inside, vocab = find_hook_points(model), task.vocab()
    # an encoder of the suite has <mask> besides
    needed = model.config.model_vocab_size(vocab) if isinstance(model, Decoder) else vocab.size
    if inside.vocab_size != needed:
        raise UserError(
            f"the model has {inside.vocab_size} tokens and {task.grammar} needs {needed}; "
            "probe it on the grammar that it was trained on"
        )
    if len(task.world().levels) < 3:
        raise UserError(f"{task.grammar} has no level between its root and its terminals; choose a higher root")
    return task


@torch.inference_mode()
def _predict_and_count(
    probes: PositionProbes, batches: Iterable[StateBatch]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correct (Y, V, n) and all predictions (V, n) of each document, and confusion[y, v, truth, prediction]."""
    hits, counts = [], []
    layers, classes = len(probes.bias), probes.bias.shape[-1]
    confusion = torch.zeros(layers, len(probes.classes), classes * classes, dtype=torch.float64)
    for batch in batches:
        predicted = probes(batch.states, batch.lengths).argmax(-1)
        known = batch.labels >= 0
        hits.append(((predicted == batch.labels) & known).sum(-1).cpu())
        counts.append(known.sum(-1).cpu())
        pairs = (batch.labels * classes + predicted).flatten(2).cpu()
        weight = known.expand(predicted.shape).flatten(2).double().cpu()
        confusion.scatter_add_(2, pairs.clamp_min(0), weight)
    return torch.cat(hits, -1).numpy(), torch.cat(counts, -1).numpy(), confusion.unflatten(-1, (classes, -1)).numpy()


def _sum_by_sentence(counts: np.ndarray, sentence_ids: list[int]) -> np.ndarray:
    """Sum (..., n documents) over equal sentences, which a small grammar repeats: (..., distinct sentences)."""
    order = np.argsort(sentence_ids, kind="stable")
    starts = np.unique(np.array(sentence_ids)[order], return_index=True)[1]
    return np.add.reduceat(counts[..., order], starts, axis=-1)
