"""Measure a model's attention by distance and to the ends of subtrees: Part 1 (arXiv 2305.13673), results 6 to 9.

probing/grammar/attention_accumulator.py defines the statistics.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lm.model import require_causal
from probing.grammar.attention_accumulator import AttentionAccumulator, AttentionMeans
from synth import Block, Corpus, Task, UserError
from synth.tasks.cfg import Cfg


def attention_weights(model: Any, documents: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    """Yield batches: indices of documents (B,) and the attention weights (B, H, T, T) of every layer."""
    from lm.inference.activations import iter_activations

    for batch in iter_activations(model, documents, "block.*.weights"):
        yield batch.rows, [batch[f"block.{layer}.weights"] for layer in range(len(batch.tensors))]


def label_rows(block: Block, name: str, numbers: np.ndarray, length: int) -> Tensor:
    """A label of documents `numbers` (B,) as (B, length, ...), padded with -1."""
    column = block.labels[name]
    rows = np.full((len(numbers), length, *column.shape[1:]), -1, np.int64)
    for row, number in enumerate(numbers):
        part = column[block.offsets[number] : block.offsets[number + 1]]
        rows[row, : len(part)] = part
    return torch.from_numpy(rows)


def measure_attention(
    model: Any, block: Block, depth: int, shifts: int = 2, reach: int = 8, swapped: bool = False
) -> AttentionMeans:
    """The statistics of a model over the documents of a labelled block, in one pass.

    swapped: the control, each sentence with the labels of another one of its length.
    """
    labelled = swap_equal_lengths(block.lengths) if swapped else np.arange(len(block))
    sums = None
    for numbers, weights in attention_weights(model, block.documents):
        if sums is None:
            longest, device = int(block.lengths.max()), weights[0].device
            sums = AttentionAccumulator(len(weights), weights[0].shape[1], depth, longest, shifts, reach, device)
        rows = labelled[numbers]
        labels = (label_rows(block, name, rows, weights[0].shape[-1]) for name in ("boundary", "subtree"))
        sums.update(weights, *labels)
    assert sums is not None, "no documents"
    return sums.result()


def swap_equal_lengths(lengths: np.ndarray) -> np.ndarray:
    """For each of n sentences the number of the next one of the same length, the first after the last (n,); its own
    where no other has its length."""
    found = np.arange(len(lengths))
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        found[same] = np.roll(same, -1)
    return found


@dataclass(frozen=True)
class AttentionStatistics:
    """Results 6 to 9 of Part 1 over true test sentences of a CFG.

    sentences: number of sentences (the paper does not say). shifts: largest offset from an end. reach: largest number
    of subtrees between two ends. distances: number of distances, from 0, for which the position part is reported.
    by_layer: rows per layer instead of the mean over layers; by_head: rows per head too (the position part and the maps
    always have both). swapped: the control, each sentence with the tree of another one of its length.
    """

    sentences: int = 1000
    shifts: int = 2
    reach: int = 8
    distances: int = 64
    by_head: bool = False
    by_layer: bool = True
    swapped: bool = field(default=False, metadata={"neutral": False})

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if min(self.sentences, self.reach, self.distances) < 1 or self.shifts < 0:
            raise UserError(f"{self}: give at least 1 for sentences, reach and distances, and 0 for shifts")
        if self.by_head and not self.by_layer:
            raise UserError("by_head=True gives rows per head of every layer; set by_layer=True with it")

    def tokens(self, task: Task) -> int:
        """Estimated number of tokens read, for the cost of a dry run."""
        return int(self.sentences * (task.world(0).mean_length + 2))

    def measure(self, model: Any, task: Task, data_seed: int, seed: int) -> list[dict[str, Any]]:
        """Rows with columns statistic, layer and head (from 1, missing in means over them), value, pairs and indices of
        the statistic:

        position: distance; explained: nothing; to_end: key_level, key_shift; end_to_end: also query_level, query_shift;
        adjacent: query_level, key_level, apart; map: nothing, the residual to the adjacent end, all levels together, of
        each layer and head; summary: kind (end_to_end, adjacent or farther), mean over layers, heads and levels, with
        error, the standard error of value over sentences. Kinds without a pair have no row.

        Raises UserError for a task without a grammar, an encoder, and sentences that do not fit the context.
        """
        if not isinstance(task, Cfg):
            raise UserError(f"attention statistics need a task whose truth is a grammar; {task.name} is none")
        require_causal(model, "attention statistics")
        block = Corpus(task, data_seed, "test").documents(0, self.sentences, labels=True)
        if block.lengths.max() > model.config.max_seq_len:
            raise UserError(
                f"a sentence of {block.lengths.max()} tokens does not fit max_seq_len={model.config.max_seq_len}; "
                "use a model with a longer one or a lower root"
            )
        depth = task.world(data_seed).depth
        found = measure_attention(model, block, depth, self.shifts, self.reach, self.swapped)
        return list(self._rows(found))

    def _rows(self, found: AttentionMeans) -> Iterator[dict[str, Any]]:
        shown = found.position[:, :, : self.distances], found.position_pairs[: self.distances]
        yield from _table("position", *shown, {"distance": 0})
        yield from _table("explained", found.position_r2, found.position_pairs.sum(), {})
        yield from _table("map", *_adjacent_map(found), {})
        yield from _summaries(found)
        key, query = {"key_level": 2, "key_shift": -self.shifts}, {"query_level": 2, "query_shift": -self.shifts}
        kinds = (
            ("to_end", found.to_end, found.to_end_pairs, key),
            ("end_to_end", found.end_to_end, found.end_to_end_pairs, query | key),
            ("adjacent", found.adjacent, found.adjacent_pairs, {"query_level": 2, "key_level": 2, "apart": 0}),
        )
        averaged = () if self.by_head else (1,) if self.by_layer else (0, 1)
        for name, values, pairs, axes in kinds:
            yield from _table(name, values.mean(averaged), pairs, axes)


def _adjacent_map(found: AttentionMeans) -> tuple[np.ndarray, int]:
    """The residual to the adjacent end of every layer and head, and its number of pairs."""
    pairs = found.adjacent_pairs[..., 1]
    total = np.where(pairs > 0, found.adjacent[..., 1], 0) * pairs
    return total.sum((-2, -1)) / max(pairs.sum(), 1), int(pairs.sum())


def _summaries(found: AttentionMeans) -> Iterator[dict[str, Any]]:
    for name, (sums, pairs) in found.by_sentence.items():
        if pairs.sum():
            value = sums.sum() / pairs.sum()
            spread = np.sqrt(np.square(sums - value * pairs).sum()) / pairs.sum()  # linearized, sentences independent
            yield {
                "statistic": "summary",
                "kind": name,
                "value": float(value),
                "error": float(spread),
                "pairs": int(pairs.sum()),
            }


def _table(name: str, values: np.ndarray, pairs: Any, axes: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Rows of values (layers[, heads], *axes) with pairs (*axes) above 0; `axes`: name and first index of each axis."""
    before = ("layer", "head")[: values.ndim - len(axes)]
    begins = dict.fromkeys(before, 1) | axes
    for index in np.argwhere(np.broadcast_to(np.asarray(pairs) > 0, values.shape)):
        places = {axis: begin + int(at) for (axis, begin), at in zip(begins.items(), index, strict=True)}
        kind = tuple(index[len(before) :])
        yield {"statistic": name, **places, "value": float(values[tuple(index)]), "pairs": int(np.asarray(pairs)[kind])}
