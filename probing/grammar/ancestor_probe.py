"""Where a model keeps the parse tree: ancestors and subtree ends, read from every layer by linear probes.

Part 1 (arXiv 2305.13673), section 4.2 and 4.3, Figures 5 to 7. docs/probes.md explains it with an example.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from lm.inference.hooks import look_inside
from lm.model import Decoder
from lm.validation import at_least, choose
from probing.grammar.parse_states import Question, Reader
from probing.linear.position_probe import Batch, PositionProbes, fit
from probing.scoring.metrics import settled, tallied
from synth import Task, UserError
from synth.tasks.cfg import Cfg

Target = Literal["ancestor", "boundary"]
Mode = Literal["full", "diagonal", "tridiagonal"]
REACH = {"full": None, "diagonal": 0, "tridiagonal": 1}


@dataclass(frozen=True)
class AncestorProbe:
    """One probe for every layer and every level of nonterminals between root and terminals, all fitted in one pass.

    target: which symbol of a level stands above a position ("ancestor"), or whether a subtree of the level ends there
    ("boundary"); mode: how far the probe looks: everywhere, at the position alone, or also at its two neighbours; ends:
    ask only where a subtree of the level ends (the paper does so for the last two modes); layers: names or patterns of
    lm.inference.activations; shuffled: the control in which every sentence has the labels of another.

    The paper's setting is the default: 16 heads of width 1024, 30,000 updates of 60 fresh sentences each. sentences:
    how many are asked for the score, none of them learned on.
    """

    target: Target = "ancestor"
    mode: Mode = "full"
    ends: bool = False
    layers: tuple[str, ...] = ("embed", "block.*")
    heads: int = 16
    position_width: int = 1024
    updates: int = 30_000
    batch: int = 60
    rate: float = 3e-3
    sentences: int = 5000
    shuffled: bool = False

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        choose("target", self.target, Target)
        choose("mode", self.mode, Mode)
        at_least(self, 1, "heads", "position_width", "updates", "batch", "sentences")
        if not self.rate > 0:
            raise UserError(f"rate={self.rate} teaches nothing; give a rate above 0")
        if self.target == "boundary" and self.ends:
            raise UserError("at subtree ends the boundary is known; give ends=False with target=boundary")

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads, for the cost of a dry run."""
        return int((self.updates * self.batch + self.sentences) * (task.world(0).mean_length + 1))

    def measure(self, model: nn.Module, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each layer and level, with the columns of probing.scoring.metrics.tallied (a group is a distinct
        sentence), loss at the end of the fit, in nats, and converged, whether it had come to rest. Levels count from
        the root, which is level 1.

        Raises UserError for a task without a grammar, a grammar of fewer than three levels, a model with another
        vocabulary or a context too short, a layer that is not there.
        """
        task = checked(model, task)
        question = Question(self.target == "boundary", self.ends, self.shuffled)
        reader = Reader(model, task, data_seed, self.layers, question, self.batch)
        probes = PositionProbes(
            len(reader.layers), question.classes(task), reader.width, task.world().max_length, self.heads,
            self.position_width, REACH[self.mode], seed,
        ).to(reader.device)  # fmt: skip
        losses = fit(probes, reader.training(self.updates), self.updates, self.rate)
        found, questions, confusion = _answered(probes, reader.test(self.sentences))
        hits, asked = _by_sentence(found, reader.tested), _by_sentence(questions, reader.tested)
        rest, tenth = settled(losses), losses[-max(1, len(losses) // 10) :].mean(0)
        return [
            {"layer": name, "level": level + 2, **tallied(hits[y, level], asked[level], confusion[y, level])}
            | {"loss": float(tenth[y, level]), "converged": bool(rest[y, level])}
            for y, name in enumerate(reader.layers)
            for level in range(len(asked))
        ]


def checked(model: nn.Module, task: Task) -> Cfg:
    """The task, when its ancestors can be asked of the model. Raises UserError otherwise."""
    if not isinstance(task, Cfg):
        raise UserError(f"ancestors need a task whose sentences have a parse tree; {task.name} has none")
    inside, vocab = look_inside(model), task.vocab()
    needed = model.config.ids(vocab) if isinstance(model, Decoder) else vocab.size  # an encoder has its <mask> too
    if inside.vocab_size != needed:
        raise UserError(
            f"the model has {inside.vocab_size} tokens and {task.grammar} needs {needed}; "
            "probe it on the grammar that it was trained on"
        )
    if len(task.world().levels) < 3:
        raise UserError(f"{task.grammar} has no level between its root and its terminals; choose a higher root")
    return task


@torch.inference_mode()
def _answered(probes: PositionProbes, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right answers (Y, V, n) and questions (V, n) of every sentence, and counts (Y, V, C, C) of (truth, answer)."""
    hits, asked = [], []
    layers, classes = len(probes.bias), probes.bias.shape[-1]
    confusion = torch.zeros(layers, len(probes.classes), classes * classes, dtype=torch.float64)
    for batch in batches:
        answers = probes(batch.states, batch.lengths).argmax(-1)
        known = batch.labels >= 0
        hits.append(((answers == batch.labels) & known).sum(-1).cpu())
        asked.append(known.sum(-1).cpu())
        pairs = (batch.labels * classes + answers).flatten(2).cpu()
        weight = known.expand(answers.shape).flatten(2).double().cpu()
        confusion.scatter_add_(2, pairs.clamp_min(0), weight)
    return torch.cat(hits, -1).numpy(), torch.cat(asked, -1).numpy(), confusion.unflatten(-1, (classes, -1)).numpy()


def _by_sentence(counts: np.ndarray, numbers: list[int]) -> np.ndarray:
    """(..., n) added up over the times that the same sentence came: in a small grammar some come often."""
    order = np.argsort(numbers, kind="stable")
    starts = np.unique(np.array(numbers)[order], return_index=True)[1]
    return np.add.reduceat(counts[..., order], starts, axis=-1)
