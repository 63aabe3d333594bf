"""Hidden states of sentences with known parse trees, as training and test data of probes, in chunks that fit memory.

The labels are those of Part 1 (arXiv 2305.13673), Figure 6, as synth.cfg.sampling gives them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from lm.inference.activations import activation_names, iter_activations, match_activations
from lm.inference.hooks import find_hook_points, is_weights
from probing.linear.position_probe import StateBatch
from synth import Corpus, UserError
from synth.task import Example
from synth.tasks.cfg import Cfg

MAX_STATE_NUMBERS = 1 << 25  # largest number of floats in a chunk of states: 128 MiB in fp32
HELD_OUT = 10  # one in so many distinct sentences is for the test only


@dataclass(frozen=True)
class ProbeTarget:
    """The label of a position on each of the V levels between root and terminals: the index of its ancestor there, or
    (boundary) whether a subtree of that level ends there. ends_only: label only positions where one ends. shuffled: the
    control, each sentence with the labels of the one before it, up to the shorter length."""

    boundary: bool = False
    ends_only: bool = False
    shuffled: bool = False

    def classes(self, task: Cfg) -> list[int]:
        """Number of classes of each level (V,)."""
        inner = task.world().levels[1:-1]
        return [2 if self.boundary else len(level) for level in inner]

    def labels(self, sentences: Sequence[Example], length: int) -> np.ndarray:
        """Labels (V, n, length) of n sentences, -1 for none."""
        levels = sentences[0].labels["ancestor"].shape[1] - 2
        labels = np.full((levels, len(sentences), length), -1)
        for n, sentence in enumerate(sentences):
            ancestors, boundary = (sentence.labels[name][1:] for name in ("ancestor", "boundary"))
            ending = boundary[:, None] <= np.arange(2, levels + 2)  # the paper's b_l: levels count from 1, the root
            values = ending.astype(int) if self.boundary else ancestors[:, 1:-1]
            labels[:, n, : len(values)] = (np.where(ending, values, -1) if self.ends_only else values).T
        if self.shuffled:
            inside = np.arange(length) < sentence_lengths(sentences)[:, None]
            labels = np.where(inside, np.roll(labels, 1, 1), -1)
        return labels


def sentence_lengths(sentences: Sequence[Example]) -> np.ndarray:
    """Number of terminals of each sentence (n,)."""
    return np.array([len(sentence.tokens) - 1 for sentence in sentences])


def is_held_out(document: Example) -> bool:
    """Whether a document, <bos> sentence <eos>, is in the test set; a hash of its content decides."""
    return crc32(document.tokens.tobytes()) % HELD_OUT == 0


class HiddenStateSampler:
    """Batches of a model's hidden states on sentences of a grammar, with labels, for training and test of probes.

    Each dimension of each layer is standardized with mean and standard deviation of the first training chunk: one
    learning rate then suits all layers, and what linear probes can express stays the same.
    """

    def __init__(
        self, model: nn.Module, task: Cfg, data_seed: int, layers: Sequence[str], target: ProbeTarget, batch_size: int,
        most_batches: int | None = None,
    ) -> None:  # fmt: skip
        """most_batches: of a chunk, whose sentences are read together; None: as many as fit memory."""
        self.model, self.task, self.data_seed, self.target, self.batch_size = model, task, data_seed, target, batch_size
        self.layers = match_activations(layers, [name for name in activation_names(model) if not is_weights(name)])
        self.width, self.device = find_hook_points(model).d_model, next(model.parameters()).device
        room = len(self.layers) * task.world().max_length * self.width * batch_size
        self.batches_per_chunk = max(1, min(MAX_STATE_NUMBERS // room, most_batches or MAX_STATE_NUMBERS))
        self.mean = self.std = torch.empty(0)
        self.test_sentence_ids: list[int] = []  # hash of each test sentence: equal for equal sentences

    def training_batches(self, batches: int) -> Iterator[StateBatch]:
        """Yield that many batches of fresh sentences."""
        stream = self._sentences("valid", tested=False)
        for done in range(0, batches, self.batches_per_chunk):
            count = min(self.batches_per_chunk, batches - done)
            yield from self._chunk_batches(list(islice(stream, count * self.batch_size)), first=not done)

    def test_batches(self, sentences: int) -> Iterator[StateBatch]:
        """Yield batches of that many held-out sentences. Call it after training_batches, which sets mean and std."""
        stream = self._sentences("test", tested=True)
        for done in range(0, sentences, self.batches_per_chunk * self.batch_size):
            chunk = list(islice(stream, min(self.batches_per_chunk * self.batch_size, sentences - done)))
            self.test_sentence_ids += [crc32(sentence.tokens.tobytes()) for sentence in chunk]
            yield from self._chunk_batches(chunk)

    def _sentences(self, split: str, tested: bool) -> Iterator[Example]:
        """Yield <bos> sentence, without <eos>, for ever."""
        corpus, number, tried, found = Corpus(self.task, self.data_seed, split), 0, 0, 0
        while tried < 10_000 or found:
            block = corpus.block(number, labels=True)
            number, tried = number + 1, tried + len(block)
            for document in map(block.__getitem__, range(len(block))):
                if is_held_out(document) == tested:
                    found += 1
                    labels = {name: column[:-1] for name, column in document.labels.items()}
                    yield Example(document.tokens[:-1], document.loss_mask[:-1], labels=labels)
        raise UserError(f"{self.task.grammar} has too few sentences to keep some for a test; choose a higher root")

    def standardized_states(self, sentences: Sequence[Example], fit_statistics: bool = False) -> Tensor:
        """Standardized states (Y, n, T, D) of sentences without <eos>, 0 at padding; T is the largest length.
        fit_statistics: set mean and std from these sentences."""
        lengths = sentence_lengths(sentences)
        states = self._raw_states(sentences, int(lengths.max()))
        real = torch.from_numpy(np.arange(states.shape[2]) < lengths[:, None]).to(self.device)
        if fit_statistics:
            inner = states[:, real]
            self.mean, self.std = inner.mean(1)[:, None, None], inner.std(1)[:, None, None].clamp_min(1e-6)
        return states.sub_(self.mean).div_(self.std).mul_(real[..., None])

    def _chunk_batches(self, sentences: Sequence[Example], first: bool = False) -> Iterator[StateBatch]:
        states, lengths = self.standardized_states(sentences, first), sentence_lengths(sentences)
        labels = torch.from_numpy(self.target.labels(sentences, states.shape[2])).to(self.device)
        for start in range(0, len(sentences), self.batch_size):
            rows = slice(start, start + self.batch_size)
            most = int(lengths[rows].max())
            known = torch.from_numpy(lengths[rows]).to(self.device)
            yield StateBatch(states[:, rows, :most], known, labels[:, rows, :most])

    def _raw_states(self, sentences: Sequence[Example], length: int) -> Tensor:
        """States (Y, n, length, D) without those of <bos> and <eos>; an encoder, which sees it, is given <eos>."""
        states = torch.zeros(len(self.layers), len(sentences), length, self.width, device=self.device)
        end = [] if getattr(getattr(self.model, "config", None), "causal", True) else [self.task.vocab().eos]
        documents = [np.append(sentence.tokens, np.array(end, np.int32)) for sentence in sentences]
        for part in iter_activations(self.model, documents, self.layers):
            rows = torch.from_numpy(part.rows).to(self.device)
            longest = part.lengths.max() - 1 - len(end)
            for y, name in enumerate(self.layers):
                states[y, rows, :longest] = part[name][:, 1 : 1 + longest].float()
        return states
