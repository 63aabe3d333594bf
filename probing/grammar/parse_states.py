"""Hidden states of sentences whose parse is known, drawn and read in lots that fit into memory, for probes to learn on.

The labels are those of Part 1 (arXiv 2305.13673), Figure 6, as synth.cfg.sampling gives them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from lm.inference.activations import matching, names, read
from lm.inference.hooks import is_weights, look_inside
from probing.linear.position_probe import Batch
from synth import Corpus, UserError
from synth.task import Example
from synth.tasks.cfg import Cfg

MOST = 1 << 25  # hidden numbers held at once: 128 MiB in fp32
HELD_OUT = 10  # one sentence in so many, by its content, is never learned on and only tested


@dataclass(frozen=True)
class Question:
    """What is asked of a position on each level between root and terminals: the number of its ancestor there, or
    (boundary) whether a subtree of that level ends there. ends: only of positions where one ends. shuffled: every
    sentence is asked for the answers of the one before it, as far as both reach."""

    boundary: bool = False
    ends: bool = False
    shuffled: bool = False

    def classes(self, task: Cfg) -> list[int]:
        """How many answers there are on each level (V,)."""
        inner = task.world().levels[1:-1]
        return [2 if self.boundary else len(level) for level in inner]

    def labels(self, sentences: Sequence[Example], length: int) -> np.ndarray:
        """Answers (V, n, length), -1 where nothing is asked."""
        levels = sentences[0].labels["ancestor"].shape[1] - 2
        found = np.full((levels, len(sentences), length), -1)
        for n, sentence in enumerate(sentences):
            ancestors, boundary = (sentence.labels[name][1:] for name in ("ancestor", "boundary"))
            ending = boundary[:, None] <= np.arange(2, levels + 2)  # the paper's b_l: levels count from 1, the root
            answers = ending.astype(int) if self.boundary else ancestors[:, 1:-1]
            found[:, n, : len(answers)] = (np.where(ending, answers, -1) if self.ends else answers).T
        if self.shuffled:
            asked = np.arange(length) < lengths_of(sentences)[:, None]
            found = np.where(asked, np.roll(found, 1, 1), -1)
        return found


def lengths_of(sentences: Sequence[Example]) -> np.ndarray:
    """How many terminals each has (n,)."""
    return np.array([len(sentence.tokens) - 1 for sentence in sentences])


def held_out(document: Example) -> bool:
    """Whether a document, <bos> sentence <eos>, is kept for tests: that is decided by its content alone."""
    return crc32(document.tokens.tobytes()) % HELD_OUT == 0


class Reader:
    """What a model makes of sentences of a grammar: batches of states and answers, for training and for a test.

    Every number of a layer's states is shifted and scaled to mean 0 and spread 1 over the first lot learned on: linear
    probes of any layer then learn at one rate, and can say no more and no less.
    """

    def __init__(
        self, model: nn.Module, task: Cfg, data_seed: int, layers: Sequence[str], question: Question, batch: int
    ) -> None:
        self.model, self.task, self.data_seed, self.question, self.batch = model, task, data_seed, question, batch
        self.layers = matching(layers, [name for name in names(model) if not is_weights(name)])
        self.width, self.device = look_inside(model).width, next(model.parameters()).device
        room = len(self.layers) * task.world().max_length * self.width * batch
        self.batches_a_lot = max(1, MOST // room)
        self.shift = self.scale = torch.empty(0)
        self.tested: list[int] = []  # a number for each test sentence, the same where it is the same sentence

    def training(self, batches: int) -> Iterator[Batch]:
        """So many batches of fresh sentences."""
        stream = self._sentences("valid", tested=False)
        for done in range(0, batches, self.batches_a_lot):
            count = min(self.batches_a_lot, batches - done)
            yield from self._lot(list(islice(stream, count * self.batch)), first=not done)

    def test(self, sentences: int) -> Iterator[Batch]:
        """So many sentences that were not learned on, whatever is learned on. Only after training has begun."""
        stream = self._sentences("test", tested=True)
        for done in range(0, sentences, self.batches_a_lot * self.batch):
            lot = list(islice(stream, min(self.batches_a_lot * self.batch, sentences - done)))
            self.tested += [crc32(sentence.tokens.tobytes()) for sentence in lot]
            yield from self._lot(lot)

    def _sentences(self, split: str, tested: bool) -> Iterator[Example]:
        """<bos> sentence, without end."""
        corpus, number, tried, found = Corpus(self.task, self.data_seed, split), 0, 0, 0
        while tried < 10_000 or found:
            block = corpus.block(number, labels=True)
            number, tried = number + 1, tried + len(block)
            for document in map(block.__getitem__, range(len(block))):
                if held_out(document) == tested:
                    found += 1
                    labels = {name: column[:-1] for name, column in document.labels.items()}
                    yield Example(document.tokens[:-1], document.loss_mask[:-1], labels=labels)
        raise UserError(f"{self.task.grammar} has too few sentences to keep some for a test; choose a higher root")

    def states(self, sentences: Sequence[Example], first: bool = False) -> Tensor:
        """(Y, n, T, D), shifted and scaled, 0 at padding; T: the longest of the sentences, which come without <eos>.
        first: they are the lot that says how to shift and to scale."""
        lengths = lengths_of(sentences)
        states = self._states(sentences, int(lengths.max()))
        real = torch.from_numpy(np.arange(states.shape[2]) < lengths[:, None]).to(self.device)
        if first:
            inner = states[:, real]
            self.shift, self.scale = inner.mean(1)[:, None, None], inner.std(1)[:, None, None].clamp_min(1e-6)
        return states.sub_(self.shift).div_(self.scale).mul_(real[..., None])

    def _lot(self, sentences: Sequence[Example], first: bool = False) -> Iterator[Batch]:
        states, lengths = self.states(sentences, first), lengths_of(sentences)
        labels = torch.from_numpy(self.question.labels(sentences, states.shape[2])).to(self.device)
        for start in range(0, len(sentences), self.batch):
            rows = slice(start, start + self.batch)
            most = int(lengths[rows].max())
            known = torch.from_numpy(lengths[rows]).to(self.device)
            yield Batch(states[:, rows, :most], known, labels[:, rows, :most])

    def _states(self, sentences: Sequence[Example], length: int) -> Tensor:
        """(Y, n, length, D): what stands at <bos> is no position of the sentence."""
        states = torch.zeros(len(self.layers), len(sentences), length, self.width, device=self.device)
        for part in read(self.model, [sentence.tokens for sentence in sentences], self.layers):
            rows = torch.from_numpy(part.rows).to(self.device)
            for y, name in enumerate(self.layers):
                states[y, rows, : part.lengths.max() - 1] = part[name][:, 1:].float()
        return states
