"""Attention statistics: the part that depends on distance alone, and the residual towards the ends of subtrees.

Part 1 (arXiv 2305.13673), results 6 to 9. A is the attention weight of a query on a key at or before it. Its position
part is the mean over all pairs at the same distance p = query - key; the residual B is A minus the position part. A
position is an end of level l if b# = l, that is, the largest subtree that ends there has level l (the root has level 1,
the terminals level L, so l = 2 .. L-1). Pairs are of positions of the sentence: <bos>, <eos> and padding are excluded.
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

    position (layers, heads, P): mean weight at distance 0..P-1 (result 6); position_r2 (layers, heads): share of the
    variance of the weights explained by distance alone;
    to_end (layers, heads, E, S): mean residual over keys k with b#(k + s) = l and any query (result 7);
    end_to_end (layers, heads, E, S, E, S): the same over queries q with b#(q + s') = l', query axes first (result 8);
    adjacent (layers, heads, E, E, R): mean residual from queries with b# = l' to keys with b# = l that end r subtrees
    of level l before the query's (result 9): r = 1 is the adjacent subtree, r = 0 the query itself;
    *_pairs: number of pairs of each mean.
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


class AttentionAccumulator:
    """Accumulates the statistics of results 6 to 9 in one pass: `update` with every batch, then `result`.

    The position part is known only at the end, so for each kind of pair the weights are summed and the pairs counted by
    distance: the mean residual is the mean weight minus the mean position part over those distances. Memory is
    layers x heads x kinds + kinds x longest numbers, independent of the number of documents.
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
        ends = self.levels**2 * (reach + 1)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.weight_sum, self.squared_weight_sum = zeros(layers, heads, longest), zeros(layers, heads)
        self.marked_weight_sum = zeros(layers, heads, marks, marks)
        self.marked_pair_counts = zeros(marks, marks, longest)
        self.adjacent_weight_sum, self.adjacent_pair_counts = zeros(layers, heads, ends), zeros(ends, longest)

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
        marks = self._position_kinds(boundary)
        self.marked_pair_counts[..., :length] += _pairs_by_distance(marks)
        near, kind = self._end_pairs(boundary, subtree)
        places = kind * self.longest + near[1] - near[2]
        counts = self.adjacent_pair_counts
        counts += torch.bincount(places, minlength=counts.numel()).view_as(counts)
        steps = torch.arange(length, device=boundary.device)
        distance = (steps[:, None] - steps).clamp_min(0).flatten()
        inside = boundary >= 0
        pairs = (inside[:, :, None] & inside[:, None] & (steps[:, None] >= steps))[:, None]
        for layer, attention in enumerate(weights):
            masked = attention.float() * pairs
            self.weight_sum[layer].index_add_(1, distance, masked.sum(0).flatten(1).double())
            self.squared_weight_sum[layer] += torch.linalg.vector_norm(masked, dim=(0, 2, 3)).double().square()
            self.marked_weight_sum[layer] += torch.einsum("btq,bhtm->hqm", marks, masked @ marks[:, None])
            self.adjacent_weight_sum[layer].index_add_(1, kind, masked[near[0], :, near[1], near[2]].T.double())

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
            pair, r = ((wanted >= 0) & (key >= 0) & (key <= query[:, None])).nonzero(as_tuple=True)
            pairs.append(torch.stack((row[pair], query[pair], key[pair, r])))
            kinds.append(((boundary[row, query][pair] - 2) * self.levels + level) * (self.reach + 1) + r)
        return torch.cat(pairs, 1), torch.cat(kinds)

    def result(self) -> AttentionMeans:
        """The means over all batches so far."""
        pairs = self.marked_pair_counts[0, 0]
        position = self.weight_sum / pairs
        filled = position.nan_to_num(0.0)
        marked = _residual(self.marked_weight_sum, self.marked_pair_counts, filled)
        counts = self.marked_pair_counts.sum(-1)
        ends = (self.levels, 2 * self.shifts + 1)
        near = (self.levels, self.levels, self.reach + 1)
        mean = self.weight_sum.sum(-1) / pairs.sum()
        spread = (pairs * filled.square()).sum(-1) / pairs.sum() - mean.square()
        return AttentionMeans(
            position.cpu().numpy(),
            _to_int_array(pairs),
            (spread / (self.squared_weight_sum / pairs.sum() - mean.square())).cpu().numpy(),
            marked[:, :, 0, 1:].unflatten(-1, ends).cpu().numpy(),
            _to_int_array(counts[0, 1:].view(ends)),
            marked[:, :, 1:, 1:].unflatten(-1, ends).unflatten(2, ends).cpu().numpy(),
            _to_int_array(counts[1:, 1:].reshape(*ends, *ends)),
            _residual(self.adjacent_weight_sum, self.adjacent_pair_counts, filled).unflatten(-1, near).cpu().numpy(),
            _to_int_array(self.adjacent_pair_counts.sum(-1).view(near)),
        )


def _pairs_by_distance(marks: Float[Tensor, "B T M"]) -> Float[Tensor, "M M T"]:
    """Number of pairs for each query kind, key kind and distance: cross-correlations, by FFT."""
    length = marks.shape[1]
    waves = torch.fft.rfft(marks.double(), 2 * length, dim=1).transpose(0, 1)  # (F, B, M)
    return torch.fft.irfft((waves.mT @ waves.conj()).movedim(0, -1), 2 * length)[..., :length].round()


def _residual(
    sums: Float[Tensor, "layers heads *kinds"],
    pairs: Float[Tensor, "*kinds P"],
    position: Float[Tensor, "layers heads P"],
) -> Float[Tensor, "layers heads *kinds"]:
    """Mean weight minus mean position part of every kind of pair."""
    expected = torch.einsum("lhp,kp->lhk", position, pairs.flatten(0, -2)).view_as(sums)
    return (sums - expected) / pairs.sum(-1)


def _to_int_array(counts: Tensor) -> np.ndarray:
    return counts.round().long().cpu().numpy()
