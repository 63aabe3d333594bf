"""Where a fact about a person can be read: the P-probe and the Q-probe of Part 3.1 (arXiv 2309.14316, section 5,
Figures 5, 7 and 13). docs/probes.md explains them with an example.

The P-probe reads a biography: at the last token before each of its six values it asks for all six attributes, so also
for those that are still to come. The Q-probe reads a name, and nothing else. Where they answer rightly, the fact is
stored with the person, in a form that a linear map reads; people probed and people learned on are never the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from lm.inference.batching import padded
from lm.model import Decoder, require_causal
from lm.validation import at_least, choose
from probing.knowledge.probe_texts import Source, biographies, first_words, full_names, whole_values
from probing.linear.low_rank import Asked, Norm, UpdateProbes, answered, fit
from probing.scoring.metrics import exchanged, score, settled
from synth import Corpus, Task, UserError
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import mean_length
from synth.mixture import people_of
from synth.tasks.bios import BioS, World

Target = Literal["first", "whole"]
Split = Literal["test", "train"]
LOT = 4096  # texts written at a time


@dataclass(frozen=True)
class FactProbe(ABC):
    """What the two probes share: fitted on the first half of the people and tested on the second.

    rank: of the update of the embedding; target: the first word of the value (of the birth date: its month), or the
    whole value (the birth date, which has too many, is then left out); updates, batch: of the fit, every attribute with
    trainables of its own; head_updates: steps before these that leave the embedding alone and cost little; rate, decay:
    of AdamW. shuffled: the control in which everybody has the facts of somebody else.
    """

    rank: int
    target: Target
    batch: int
    updates: int = 30_000
    head_updates: int = 0
    rate: float = 1e-3
    decay: float = 0.3
    shuffled: bool = False

    version: ClassVar[int] = 1
    norm: ClassVar[Norm]

    def __post_init__(self) -> None:
        choose("target", self.target, Target)
        at_least(self, 0, "rank", "head_updates", "decay")
        at_least(self, 1, "updates")
        at_least(self, 2, "batch")
        if not self.rate > 0:
            raise UserError(f"rate={self.rate} teaches nothing; give a rate above 0")

    @property
    def split(self) -> Split:
        """Of which documents the world is told."""
        return "test"

    @abstractmethod
    def source(self, corpus: Corpus) -> Source:
        """What is read about the people of a corpus."""

    @abstractmethod
    def length(self, task: Task) -> float:
        """About how many tokens a text has."""

    def tokens(self, task: Task) -> int:
        """About how many tokens a measurement reads; one through which an update is trained counts as two."""
        asked, people = len(self._asked()), people_of(task).people
        read = self.batch * (2 * asked * self.updates + self.head_updates) + asked * (people - people // 2)
        return int(read * self.length(task))

    def measure(self, model: nn.Module, task: Task, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """A row for each position and attribute, with the columns of probing.scoring.metrics.score about the people of
        the second half, and unseen: how many of them are left out because nobody in the first half has their value;
        told: in which share of the texts the value had begun before; loss at the end of the fit, in nats, and
        converged, of an attribute at all positions.

        Raises UserError for a task without the people of bioS or fewer than 4 of them, a model that is no causal
        Decoder or has another vocabulary or a context too short, a rank larger than its embedding has.
        """
        model, task = _checked(model, task)
        corpus = Corpus(task, data_seed, self.split)
        first, second = np.split(np.arange(task.people), [task.people // 2])
        labels, classes = self._labels(task, corpus.world, len(first), seed)
        source, probes = self.source(corpus), UpdateProbes(model, classes, self.rank, self.norm, seed)
        count = self.head_updates + self.updates
        batches = self._batches(source, labels, *_turns(first, count * self.batch, seed), model)
        losses = fit(probes, model, batches, self.updates, self.head_updates, self.rate, self.decay)
        asked = list(self._batches(source, labels, second, np.zeros_like(second), model))
        answers = answered(probes, model, asked)
        return self._rows(answers, labels[:, second], second, source(second, np.zeros_like(second)).told, losses)

    def _asked(self) -> tuple[int, ...]:
        """Numbers of the attributes that are asked for."""
        return tuple(range(len(ATTRIBUTES)))[self.target == "whole" :]

    def _labels(self, task: BioS, world: World, half: int, seed: int) -> tuple[np.ndarray, list[int]]:
        """Numbers (Y, N) of everybody's answers among those of the first half, -1 for others, and how many there
        are."""
        values = (first_words if self.target == "first" else whole_values)(task, world)[list(self._asked())]
        people = np.arange(task.people)
        values = values[:, exchanged(people, people, seed)] if self.shuffled else values
        known = [np.unique(row[:half]) for row in values]
        found = [np.searchsorted(k, row).clip(max=len(k) - 1) for k, row in zip(known, values, strict=True)]
        labels = [np.where(k[n] == row, n, -1) for k, n, row in zip(known, found, values, strict=True)]
        return np.stack(labels), [len(k) for k in known]

    def _batches(
        self, source: Source, labels: np.ndarray, people: np.ndarray, turns: np.ndarray, model: Decoder
    ) -> Iterator[Asked]:
        device, lot = model.embed.weight.device, max(1, LOT // self.batch) * self.batch
        for start in range(0, len(people), lot):
            texts = source(people[start : start + lot], turns[start : start + lot])
            for row in range(0, len(texts.documents), self.batch):
                rows = np.arange(row, min(row + self.batch, len(texts.documents)))
                positions = texts.positions[rows]
                facts = labels[:, people[start + rows], None].repeat(positions.shape[1], -1)
                arrays = (padded(texts.documents, rows), positions, facts)
                yield Asked(*(torch.from_numpy(array).to(device) for array in arrays))

    def _rows(
        self, answers: np.ndarray, truth: np.ndarray, people: np.ndarray, told: np.ndarray, losses: np.ndarray
    ) -> list[dict[str, Any]]:
        rest, tenth = settled(losses), losses[-max(1, len(losses) // 10) :].mean(0)
        rows = []
        for k in range(answers.shape[-1]):
            for y, attribute in enumerate(self._asked()):
                known = truth[y] >= 0
                row = {"position": k, "attribute": ATTRIBUTES[attribute]}
                row |= score(truth[y, known], answers[y, known, k], people[known])
                row |= {"unseen": int((~known).sum()), "told": float(told[:, k, attribute].mean())}
                rows.append(row | {"loss": float(tenth[y]), "converged": bool(rest[y])})
        return rows


@dataclass(frozen=True)
class PProbe(FactProbe):
    """Six positions in a biography, each just before a value, in the order of the text.

    split: "test", wordings that the model was not trained on, a fresh one for everybody in every turn as far as the
    task has them; "train", those that it was. The other fields are those of FactProbe; the paper's are the default.
    """

    rank: int = 2
    target: Target = "first"
    batch: int = 50
    split: Split = "test"

    norm: ClassVar[Norm] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("split", self.split, Split)

    def source(self, corpus: Corpus) -> Source:
        return biographies(corpus)

    def length(self, task: Task) -> float:
        return mean_length(people_of(task), self.split)


@dataclass(frozen=True)
class QProbe(FactProbe):
    """One position: the end token after "<bos> full name". The fields are those of FactProbe; the paper's are the
    default."""

    rank: int = 16
    target: Target = "first"
    batch: int = 200

    norm: ClassVar[Norm] = "batch"

    def source(self, corpus: Corpus) -> Source:
        return full_names(corpus)

    def length(self, task: Task) -> float:
        return 5.0


def _checked(model: nn.Module, task: Task) -> tuple[Decoder, BioS]:
    people = replace(people_of(task), half="all")  # positions in the world, whoever was told of
    if not isinstance(model, Decoder):
        raise UserError(f"an update of the embedding needs a Decoder (lm.load), and this is a {type(model).__name__}")
    require_causal(model, "reading what a model knows before it is told")
    if model.vocab_size != (needed := model.config.ids(people.vocab())):
        raise UserError(
            f"the model has {model.vocab_size} tokens and the task needs {needed}; "
            "probe it on the people that it was trained on"
        )
    if people.people < 4:
        raise UserError(f"people={people.people} leaves fewer than 2 to learn on or to be tested; raise people")
    return model, people


def _turns(people: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` of everybody in ever new orders, and how often each had a turn before."""
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(people) for _ in range(-(-count // len(people)))]
    return np.concatenate(orders)[:count], np.arange(count) // len(people)
