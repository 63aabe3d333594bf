"""Attention statistics: the part that depends on position alone, and the residual towards the ends of subtrees.

Part 1 (arXiv 2305.13673), results 6 to 9. A is the attention weight of a query on a key before it. Result 6 is its mean
over all pairs at the same distance. The residual B is A minus the mean weight, over sentences, of the same query
position on the same key position: the mean at a distance alone would leave a residual in an untrained model, since an
early query has few keys and gives each of them more. A position is an end of level l if b# = l, that is, the largest
subtree that ends there has level l (the root has level 1, the terminals level L, so l = 2 .. L-1). Pairs are of two
different positions of the sentence: <bos>, <eos> and padding are excluded, and what a query gives to itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from synth.errors import UserError


@dataclass(frozen=True)
class AttentionMeans:
    """Means over all pairs, with axes E = L - 2 levels of ends (from 2), S = 2 shifts + 1 (from -shifts) and
    R = reach + 1 (from 0). A mean over no pairs is NaN.

    position (layers, heads, P): mean weight at distance 0..P-1 (result 6), 0 being a query itself; position_r2 (layers,
    heads): share of the variance of the weights explained by distance alone;
    to_end (layers, heads, E, S): mean residual over keys k with b#(k + s) = l and any query (result 7);
    end_to_end (layers, heads, E, S, E, S): the same over queries q with b#(q + s') = l', query axes first (result 8);
    adjacent (layers, heads, E, E, R): mean residual from queries with b# = l' to keys with b# = l that end r subtrees
    of level l before the query's (result 9): r = 1 is the adjacent subtree, r = 0 the query's own, where a smaller one
    of it ends before;
    *_pairs: number of pairs of each mean.
    by_sentence: for "end_to_end" (at offset 0), "adjacent" (r = 1) and "farther" (r > 1), all levels together, the sum
    of the residuals, mean over layers and heads, and the number of pairs of each of N sentences, for the error of the
    mean over sentences.
    """

    position: Float[np.ndarray, "layers heads P"]
    position_pairs: Int[np.ndarray, " P"]
    position_r2: Float[np.ndarray, "layers heads"]
    to_end: Float[np.ndarray, "layers heads E S"]
    to_end_pairs: Int[np.ndarray, "E S"]
    end_to_end: Float[np.ndarray, "layers heads E S E S"]
    end_to_end_pairs: Int[np.ndarray, "E S E S"]
    adjacent: Float[np.ndarray, "layers heads E E R"]
    adjacent_pairs: Int[np.ndarray, "E E R"]
    by_sentence: dict[str, tuple[Float[np.ndarray, " N"], Int[np.ndarray, " N"]]]


@dataclass(frozen=True)
class LabelledBatch:
    """What is kept of a batch: marks (B, T, M), the kinds of every position; near (3, N): row, query and key of pairs
    of ends; kind (N,): theirs; sums: of the weights of its summaries, by sentence (B,)."""

    marks: Tensor
    near: Tensor
    kind: Tensor
    sums: dict[str, Tensor]


class AttentionAccumulator:
    """Accumulates the statistics of results 6 to 9 in one pass of the model: `update` with every batch, then `result`.

    The mean weight of two positions is known only at the end. Sums of weights over kinds of pairs are taken as they
    come; what is expected of them follows at the end from the labels of the sentences, which are kept.
    """

    def __init__(
        self, layers: int, heads: int, depth: int, longest: int, shifts: int = 2, reach: int = 8, device: Any = "cpu"
    ) -> None:
        """depth: levels L of the grammar; longest: largest length T of a batch; shifts: largest offset from an
        end; reach: largest number of subtrees between two ends."""
        if depth < 3:
            raise UserError(f"a grammar of {depth} levels has no subtrees between root and terminals; use a deeper one")
        if shifts < 0 or reach < 1:
            raise UserError(f"shifts={shifts}, reach={reach} leave nothing to measure; give at least 0 and 1")
        self.levels, self.longest, self.shifts, self.reach = depth - 2, longest, shifts, reach
        marks = 1 + self.levels * (2 * shifts + 1)  # kinds of position: any, then each level's end at each shift

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.weight_sum, self.pair_counts = zeros(layers, heads, longest, longest), zeros(longest, longest)
        self.squared_weight_sum = zeros(layers, heads)
        self.marked_weight_sum = zeros(layers, heads, marks, marks)
        self.near_weight_sum = zeros(layers, heads, self.levels**2 * (reach + 1))
        self.batches: list[LabelledBatch] = []

    def update(
        self, weights: Sequence[Float[Tensor, "B H T T"]], boundary: Int[Tensor, "B T"], subtree: Int[Tensor, "B T L"]
    ) -> None:
        """Add a batch. weights: [batch, head, query, key] of every layer; boundary (b#) and subtree (index of the
        subtree at each level, root first): the labels of synth.tasks.cfg, -1 outside the sentence.

        Raises UserError for another number of layers, or more positions, than given to the constructor.
        """
        layers, length = len(self.weight_sum), boundary.shape[1]
        if len(weights) != layers or length > self.longest:
            raise UserError(
                f"{len(weights)} layers and {length} positions do not fit an AttentionAccumulator of {layers} layers "
                f"and {self.longest} positions; make it with the model's layers and the longest batch"
            )
        boundary, subtree = boundary.to(self.weight_sum.device).long(), subtree.to(self.weight_sum.device).long()
        marks, (near, kind) = self._position_kinds(boundary), self._end_pairs(boundary, subtree)
        inside = boundary >= 0
        pairs = (inside[:, :, None] & inside[:, None]).tril()
        self.pair_counts[:length, :length] += pairs.sum(0)
        batch = LabelledBatch(marks, near, kind, {})
        for layer, attention in enumerate(weights):
            masked = attention.float() * pairs[:, None]
            self.weight_sum[layer, :, :length, :length] += masked.sum(0).double()
            self.squared_weight_sum[layer] += torch.linalg.vector_norm(masked, dim=(0, 2, 3)).double().square()
            before = masked.tril(-1)
            marked = torch.einsum("btq,bhtm->bhqm", marks, before @ marks[:, None])
            self.marked_weight_sum[layer] += marked.sum(0).double()
            near_weights = before[near[0], :, near[1], near[2]].double()
            self.near_weight_sum[layer].index_add_(1, kind, near_weights.T)
            self._add_summaries(batch, marked.double().mean(1) / layers, near_weights.mean(1) / layers)
        self.batches.append(batch)

    def _add_summaries(self, batch: LabelledBatch, marked: Tensor, near: Tensor) -> None:
        """Add to the sums of a batch by sentence: marked (B, M, M), and near (N,) of its pairs of ends."""
        for name, values in self._summaries(batch, marked, near).items():
            batch.sums[name] = batch.sums.get(name, 0) + values

    def _summaries(self, batch: LabelledBatch, marked: Tensor, near: Tensor) -> dict[str, Float[Tensor, " B"]]:
        """By sentence, the sums over all pairs of ends, over adjacent ones, and over those farther apart."""
        at_ends = torch.arange(1 + self.shifts, marked.shape[-1], 2 * self.shifts + 1, device=marked.device)
        found = {"end_to_end": marked[:, at_ends[:, None], at_ends].sum((1, 2))}
        apart = batch.kind % (self.reach + 1)
        for name, chosen in (("adjacent", apart == 1), ("farther", apart > 1)):
            found[name] = marked.new_zeros(len(marked)).index_add_(0, batch.near[0], near * chosen)
        return found

    def _position_kinds(self, boundary: Tensor) -> Float[Tensor, "B T M"]:
        """Indicator of the kinds of position t: column 0 any position, then (level l, shift s): b#(t + s) = l."""
        around = F.pad(boundary, (self.shifts, self.shifts), value=-1).unfold(1, 2 * self.shifts + 1, 1)
        levels = torch.arange(2, 2 + self.levels, device=boundary.device)
        inside = (boundary >= 0)[..., None]
        marks = (around[:, :, None] == levels[:, None]).flatten(2) & inside
        return torch.cat((inside, marks), -1).float()

    def _end_pairs(self, boundary: Tensor, subtree: Tensor) -> tuple[Int[Tensor, "3 N"], Int[Tensor, " N"]]:
        """Pairs of ends at most `reach` subtrees apart: (row, query, key) and the index of each pair's kind."""
        row, query = ((boundary >= 2) & (boundary < 2 + self.levels)).nonzero(as_tuple=True)
        apart = torch.arange(self.reach + 1, device=boundary.device)
        pairs, kinds = [], []
        for level in range(self.levels):
            number = subtree[..., level + 1]
            own, at = (boundary == level + 2).nonzero(as_tuple=True)
            end = torch.full_like(boundary, -1)  # of each subtree of this level, if none larger ends there too
            end[own, number[own, at]] = at
            wanted = number[row, query][:, None] - apart
            key = end[row[:, None], wanted.clamp_min(0)]
            pair, r = ((wanted >= 0) & (key >= 0) & (key < query[:, None])).nonzero(as_tuple=True)
            pairs.append(torch.stack((row[pair], query[pair], key[pair, r])))
            kinds.append(((boundary[row, query][pair] - 2) * self.levels + level) * (self.reach + 1) + r)
        return torch.cat(pairs, 1), torch.cat(kinds)

    def result(self) -> AttentionMeans:
        """The means over all batches so far."""
        expected = self._sum_table(self.weight_sum / self.pair_counts)
        counts = self._sum_table(torch.ones_like(self.pair_counts)[None, None])
        ends, near = (self.levels, 2 * self.shifts + 1), (self.levels, self.levels, self.reach + 1)
        marked_pairs, near_pairs = counts.marked[0, 0], counts.near[0, 0]
        marked = (self.marked_weight_sum - expected.marked) / marked_pairs
        position, position_pairs, r2 = self._by_distance()
        return AttentionMeans(
            position.cpu().numpy(),
            _to_int_array(position_pairs),
            r2.cpu().numpy(),
            marked[:, :, 0, 1:].unflatten(-1, ends).cpu().numpy(),
            _to_int_array(marked_pairs[0, 1:].view(ends)),
            marked[:, :, 1:, 1:].unflatten(-1, ends).unflatten(2, ends).cpu().numpy(),
            _to_int_array(marked_pairs[1:, 1:].reshape(*ends, *ends)),
            ((self.near_weight_sum - expected.near) / near_pairs).unflatten(-1, near).cpu().numpy(),
            _to_int_array(near_pairs.view(near)),
            {
                name: ((self._by_sentence(name) - total).cpu().numpy(), _to_int_array(counts.by_sentence[name]))
                for name, total in expected.by_sentence.items()
            },
        )

    def _by_sentence(self, name: str) -> Float[Tensor, " N"]:
        return torch.cat([batch.sums[name] for batch in self.batches])

    def _sum_table(self, table: Float[Tensor, "layers heads T T"]) -> "TableSums":
        """What the sums over kinds of pairs would be if the weight of two positions were that of a table."""
        table = table.nan_to_num(0.0).tril(-1)
        layers, heads = table.shape[:2]
        marked = torch.zeros_like(self.marked_weight_sum[:layers, :heads])
        near = torch.zeros_like(self.near_weight_sum[:layers, :heads])
        summaries: list[dict[str, Tensor]] = []
        for batch in self.batches:
            marks, (_, query, key) = batch.marks.double(), batch.near
            length, found = marks.shape[1], LabelledBatch(batch.marks, batch.near, batch.kind, {})
            for layer, weights in enumerate(table[:, :, :length, :length]):
                by_row = torch.einsum("bqm,bhqn->bhmn", marks, torch.einsum("hqk,bkn->bhqn", weights, marks))
                marked[layer] += by_row.sum(0)
                near[layer].index_add_(1, batch.kind, weights[:, query, key])
                self._add_summaries(found, by_row.mean(1) / layers, weights[:, query, key].mean(0) / layers)
            summaries.append(found.sums)
        return TableSums(marked, near, {name: torch.cat([one[name] for one in summaries]) for name in summaries[0]})

    def _by_distance(
        self,
    ) -> tuple[Float[Tensor, "layers heads T"], Float[Tensor, " T"], Float[Tensor, "layers heads"]]:
        """Mean weight at each distance, its number of pairs, and the share of the variance that it explains."""
        steps = torch.arange(self.longest, device=self.weight_sum.device)
        distance = (steps[:, None] - steps).clamp_min(0).flatten()

        def by_distance(table: Tensor) -> Tensor:
            return table.new_zeros(*table.shape[:-2], self.longest).index_add_(-1, distance, table.tril().flatten(-2))

        pairs = by_distance(self.pair_counts)
        position = by_distance(self.weight_sum) / pairs
        mean = self.weight_sum.sum((-2, -1)) / pairs.sum()
        explained = (pairs * position.nan_to_num(0.0).square()).sum(-1) / pairs.sum() - mean.square()
        return position, pairs, explained / (self.squared_weight_sum / pairs.sum() - mean.square())


@dataclass(frozen=True)
class TableSums:
    """Sums over the pairs of all sentences: marked (layers, heads, M, M) by kinds of query and key, near (layers,
    heads, K) by kinds of pairs of ends, and those of the summaries by sentence (N,)."""

    marked: Tensor
    near: Tensor
    by_sentence: dict[str, Tensor]


def _to_int_array(counts: Tensor) -> np.ndarray:
    return counts.round().long().cpu().numpy()
