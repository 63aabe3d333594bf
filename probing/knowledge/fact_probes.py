"""Where a model's hidden states encode facts about a person: the P-probe and Q-probe of Part 3.1 (arXiv 2309.14316,
section 5, Figures 5, 7 and 13). docs/probes.md explains them with an example.

The P-probe reads hidden states of a biography: at the last token before each of its six values it predicts all six
attributes, also those that come later in the text. The Q-probe reads the full name alone. Where a probe predicts a
value that the text has not stated, the fact is linearly decodable from the name. Probes are fitted and tested on
disjoint people.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from lm.inference.batching import pad_documents
from lm.model import Decoder, require_causal
from lm.validation import check_at_least, check_choice
from probing.knowledge.probe_texts import TextSource, biography_source, first_word_ids, name_source, value_ids
from probing.knowledge.qa_scoring import check_vocabulary
from probing.linear.low_rank import LowRankProbes, Norm, ProbeBatch, fit_low_rank_probes, predict
from probing.scoring.metrics import final_loss, has_converged, permute_labels_between_groups, score
from synth import Corpus, UserError
from synth.bio.value_lists import ATTRIBUTES
from synth.corpus import mean_length
from synth.task import TrainingData
from synth.tasks.bios import BioS, World, biographies_of

Target = Literal["first", "whole"]
Split = Literal["test", "train"]
CHUNK_TEXTS = 4096  # texts generated at a time


@dataclass(frozen=True)
class FactProbe(ABC):
    """Base of the two probes: fitted on the first half of the people, tested on the second.

    embed_rank: rank of the trainable update of the embedding. target: "first", the first word of the value (of the
    birth date: the month), or "whole", the whole value, without the birth date, which has too many. updates,
    batch_size: of the fit, in which each attribute has trainable parameters of its own. head_updates: cheaper steps
    before these, with the embedding frozen. lr, weight_decay: of AdamW. shuffled: the control, with the people's facts
    permuted.
    """

    embed_rank: int = field(metadata={"identity": "rank"})
    target: Target
    batch_size: int = field(metadata={"identity": "batch"})
    updates: int = 30_000
    head_updates: int = 0
    lr: float = field(default=1e-3, metadata={"identity": "rate"})
    weight_decay: float = field(default=0.3, metadata={"identity": "decay"})
    shuffled: bool = False

    version: ClassVar[int] = 1
    norm: ClassVar[Norm]

    def __post_init__(self) -> None:
        check_choice("target", self.target, Target)
        check_at_least(self, 0, "embed_rank", "head_updates", "weight_decay")
        check_at_least(self, 1, "updates")
        check_at_least(self, 2, "batch_size")
        if not self.lr > 0:
            raise UserError(f"lr={self.lr} trains nothing; give a learning rate above 0")

    @property
    def split(self) -> Split:
        """Which templates the texts are written with."""
        return "test"

    @abstractmethod
    def make_text_source(self, corpus: Corpus) -> TextSource:
        """The texts about the people of a corpus from which facts are decoded."""

    @abstractmethod
    def length(self, task: TrainingData) -> float:
        """Mean number of tokens of a text."""

    def tokens(self, task: TrainingData) -> int:
        """Estimated number of tokens of a measurement; tokens with a backward pass count twice."""
        attributes, people = len(self._attribute_ids()), biographies_of(task).people
        fit_texts = self.batch_size * (2 * attributes * self.updates + self.head_updates)
        return int((fit_texts + attributes * (people - people // 2)) * self.length(task))

    def measure(self, model: nn.Module, task: TrainingData, data_seed: int, seed: int = 0) -> list[dict[str, Any]]:
        """One row per position and attribute, with the columns of probing.scoring.metrics.score over the people of the
        second half. unseen: number of people left out because nobody in the first half has their value. told: share of
        texts in which the value begins at or before the position. loss (nats, last tenth of the fit) and converged: of
        an attribute over all positions.

        Raises UserError for a task without the people of bioS or with fewer than 4, for a model that is no causal
        Decoder, has another vocabulary or too short a context, and for a rank larger than that of its embedding.
        """
        model, task = _require_people_model(model, task)
        corpus = Corpus(task, data_seed, self.split)
        first, second = np.split(np.arange(task.people), [task.people // 2])
        labels, classes = self._make_labels(task, corpus.world, len(first), seed)
        source, probes = self.make_text_source(corpus), LowRankProbes(model, classes, self.embed_rank, self.norm, seed)
        count = self.head_updates + self.updates
        batches = self._make_batches(source, labels, *_draw_epochs(first, count * self.batch_size, seed), model)
        optimizer = (self.updates, self.head_updates, self.lr, self.weight_decay)
        losses = fit_low_rank_probes(probes, model, batches, *optimizer)
        epochs = np.zeros_like(second)
        predicted = predict(probes, model, list(self._make_batches(source, labels, second, epochs, model)))
        already_seen = source(second, epochs).value_already_seen
        return self._result_rows(predicted, labels[:, second], second, already_seen, losses)

    def _attribute_ids(self) -> tuple[int, ...]:
        """The attributes that are predicted (Y of them), as indices of ATTRIBUTES."""
        return tuple(range(len(ATTRIBUTES)))[self.target == "whole" :]

    def _make_labels(self, task: BioS, world: World, half: int, seed: int) -> tuple[np.ndarray, list[int]]:
        """Class (Y, N) of each person's value among the values of the first `half` people, -1 for values that none of
        them has; and the number of classes of each attribute."""
        values = (first_word_ids if self.target == "first" else value_ids)(task, world)[list(self._attribute_ids())]
        people = np.arange(task.people)
        values = values[:, permute_labels_between_groups(people, people, seed)] if self.shuffled else values
        classes = [np.unique(row[:half]) for row in values]
        nearest = [np.searchsorted(c, row).clip(max=len(c) - 1) for c, row in zip(classes, values, strict=True)]
        labels = [np.where(c[n] == row, n, -1) for c, n, row in zip(classes, nearest, values, strict=True)]
        return np.stack(labels), [len(c) for c in classes]

    def _make_batches(
        self, source: TextSource, labels: np.ndarray, people: np.ndarray, epochs: np.ndarray, model: Decoder
    ) -> Iterator[ProbeBatch]:
        """Batches of texts about `people` (n,), in the wording of `epochs` (n,)."""
        device, chunk = model.embed.weight.device, max(1, CHUNK_TEXTS // self.batch_size) * self.batch_size
        for start in range(0, len(people), chunk):
            texts = source(people[start : start + chunk], epochs[start : start + chunk])
            for row in range(0, len(texts.documents), self.batch_size):
                rows = np.arange(row, min(row + self.batch_size, len(texts.documents)))
                positions = texts.positions[rows]
                facts = labels[:, people[start + rows], None].repeat(positions.shape[1], -1)
                arrays = (pad_documents(texts.documents, rows), positions, facts)
                yield ProbeBatch(*(torch.from_numpy(array).to(device) for array in arrays))

    def _result_rows(
        self, predicted: np.ndarray, truth: np.ndarray, people: np.ndarray, seen: np.ndarray, losses: np.ndarray
    ) -> list[dict[str, Any]]:
        """predicted (Y, n, K), truth (Y, n), people (n,), seen (n, K, 6), losses (steps, Y)."""
        converged, loss = has_converged(losses), final_loss(losses)
        rows = []
        for k in range(predicted.shape[-1]):
            for y, attribute in enumerate(self._attribute_ids()):
                known = truth[y] >= 0
                row = {"position": k, "attribute": ATTRIBUTES[attribute]}
                row |= score(truth[y, known], predicted[y, known, k], people[known])
                row |= {"unseen": int((~known).sum()), "told": float(seen[:, k, attribute].mean())}
                rows.append(row | {"loss": float(loss[y]), "converged": bool(converged[y])})
        return rows


@dataclass(frozen=True)
class PProbe(FactProbe):
    """Probe at six positions of a biography, each at the last token before a value, in the order of the text.

    split: "test", templates that the model was not trained on, drawn anew for each person and epoch as far as the task
    has them; "train", the training templates. The defaults, also of FactProbe's fields, are the paper's.
    """

    embed_rank: int = field(default=2, metadata={"identity": "rank"})
    target: Target = "first"
    batch_size: int = field(default=50, metadata={"identity": "batch"})
    split: Split = "test"

    norm: ClassVar[Norm] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("split", self.split, Split)

    def make_text_source(self, corpus: Corpus) -> TextSource:
        return biography_source(corpus)

    def length(self, task: TrainingData) -> float:
        return mean_length(biographies_of(task), self.split)


@dataclass(frozen=True)
class QProbe(FactProbe):
    """Probe at one position: the <eos> of "<bos> full name <eos>". The defaults are the paper's."""

    embed_rank: int = field(default=16, metadata={"identity": "rank"})
    target: Target = "first"
    batch_size: int = field(default=200, metadata={"identity": "batch"})

    norm: ClassVar[Norm] = "batch"

    def make_text_source(self, corpus: Corpus) -> TextSource:
        return name_source(corpus)

    def length(self, task: TrainingData) -> float:
        return 5.0


def _require_people_model(model: nn.Module, task: TrainingData) -> tuple[Decoder, BioS]:
    people = replace(biographies_of(task), half="all")  # so that item i is person i of the world
    if not isinstance(model, Decoder):
        raise UserError(f"an update of the embedding needs a Decoder (lm.load), and this is a {type(model).__name__}")
    require_causal(model, "reading what a model knows before it is told")
    check_vocabulary(model, people)
    if people.people < 4:
        raise UserError(f"people={people.people} leaves fewer than 2 to learn on or to be tested; raise people")
    return model, people


def _draw_epochs(people: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` people (count,) epoch by epoch without replacement, with each draw's epoch (count,)."""
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(people) for _ in range(-(-count // len(people)))]
    return np.concatenate(orders)[:count], np.arange(count) // len(people)
