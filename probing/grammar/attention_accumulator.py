"""Where attention goes: by distance alone, and beyond distance to the ends of subtrees.

Physics of Language Models, Part 1 (arXiv 2305.13673), results 6 to 9. A is the weight that a query gives to a key not
after it. Its position part is the mean over all pairs of one distance p = query - key; the residual B is A less the
position part of its distance. A position is an end of level l where b# = l: the largest subtree that ends there has
level l (the root has level 1, the terminals level L, so that l = 2 .. L-1). Pairs are of positions of the sentence:
<bos>, <eos> and padding are neither queries nor keys.
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
class Attention:
    """Means over all pairs seen, with axes E = L - 2 levels of ends (2 first), S = 2 shifts + 1 (the largest to the
    left first) and R = reach + 1 (0 first). A mean over no pairs is NaN.

    position (layers, heads, P): mean weight at distance 0..P-1 (result 6); explained (layers, heads): share of the
    variance of the weights that distance alone explains;
    to_end (layers, heads, E, S): mean residual over keys k with b#(k + s) = l, from any query (result 7);
    end_to_end (layers, heads, E, S, E, S): and over queries q with b#(q + s') = l'; the query's axes first (result 8);
    adjacent (layers, heads, E, E, R): mean residual from queries with b# = l' to keys with b# = l that lie r subtrees
    of the key's level l before the query's (result 9): 1 is the adjacent one, 0 the query itself.
    Names in _pairs hold how many pairs each mean is over.
    """

    position: Float[np.ndarray, "layers heads P"]
    position_pairs: Int[np.ndarray, " P"]
    explained: Float[np.ndarray, "layers heads"]
    to_end: Float[np.ndarray, "layers heads E S"]
    to_end_pairs: Int[np.ndarray, "E S"]
    end_to_end: Float[np.ndarray, "layers heads E S E S"]
    end_to_end_pairs: Int[np.ndarray, "E S E S"]
    adjacent: Float[np.ndarray, "layers heads E E R"]
    adjacent_pairs: Int[np.ndarray, "E E R"]


class AttentionSums:
    """The statistics of result 6 to 9 in one pass: `update` with every batch, then `result`.

    The position part is known only at the end, and so for every kind of pair its weights are added up, and its pairs
    counted by distance: the mean residual is the mean weight less the mean position part over those distances.
    Memory: heads x layers x kinds + kinds x longest numbers, whatever is streamed through.
    """

    def __init__(
        self, layers: int, heads: int, depth: int, longest: int, shifts: int = 2, reach: int = 8, device: Any = "cpu"
    ) -> None:
        """depth: levels L of the grammar; longest: positions T of the longest batch; shifts: how far from an end;
        reach: largest number of subtrees between ends."""
        if depth < 3:
            raise UserError(f"a grammar of {depth} levels has no subtrees between root and terminals; use a deeper one")
        if shifts < 0 or reach < 1:
            raise UserError(f"shifts={shifts}, reach={reach} leave nothing to measure; give at least 0 and 1")
        self.levels, self.longest, self.shifts, self.reach = depth - 2, longest, shifts, reach
        marks = 1 + self.levels * (2 * shifts + 1)  # kinds of position: any, then each level's end at each shift
        ends = self.levels**2 * (reach + 1)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.weight, self.square = zeros(layers, heads, longest), zeros(layers, heads)
        self.marked, self.marked_pairs = zeros(layers, heads, marks, marks), zeros(marks, marks, longest)
        self.ends, self.ends_pairs = zeros(layers, heads, ends), zeros(ends, longest)

    def update(
        self, weights: Sequence[Float[Tensor, "B H T T"]], boundary: Int[Tensor, "B T"], subtree: Int[Tensor, "B T L"]
    ) -> None:
        """Add a batch. weights: of every layer, query before key; boundary (b#) and subtree (which subtree of each
        level, root first): the labels of synth.tasks.cfg, -1 wherever there is no position of a sentence.

        Raises UserError when there are more or fewer layers, or more positions, than were announced.
        """
        layers, length = len(self.weight), boundary.shape[1]
        if len(weights) != layers or length > self.longest:
            raise UserError(
                f"{len(weights)} layers and {length} positions came where {layers} and at most {self.longest} were "
                "announced; make AttentionSums of the model's layers and the longest batch"
            )
        boundary, subtree = boundary.to(self.weight.device).long(), subtree.to(self.weight.device).long()
        marks = self._marks(boundary)
        self.marked_pairs[..., :length] += _pairs_by_distance(marks)
        near, kind = self._near(boundary, subtree)
        places = kind * self.longest + near[1] - near[2]
        self.ends_pairs += torch.bincount(places, minlength=self.ends_pairs.numel()).view_as(self.ends_pairs)
        steps = torch.arange(length, device=boundary.device)
        distance = (steps[:, None] - steps).clamp_min(0).flatten()
        inside = boundary >= 0
        pairs = (inside[:, :, None] & inside[:, None] & (steps[:, None] >= steps))[:, None]
        for layer, given in enumerate(weights):
            kept = given.float() * pairs
            self.weight[layer].index_add_(1, distance, kept.sum(0).flatten(1).double())
            self.square[layer] += torch.linalg.vector_norm(kept, dim=(0, 2, 3)).double().square()
            self.marked[layer] += torch.einsum("btq,bhtm->hqm", marks, kept @ marks[:, None])
            self.ends[layer].index_add_(1, kind, kept[near[0], :, near[1], near[2]].T.double())

    def _marks(self, boundary: Tensor) -> Float[Tensor, "B T M"]:
        """1 where a position t of a sentence is of a kind: column 0 any, then (level l, shift s): b#(t + s) = l."""
        around = F.pad(boundary, (self.shifts, self.shifts), value=-1).unfold(1, 2 * self.shifts + 1, 1)
        levels = torch.arange(2, 2 + self.levels, device=boundary.device)
        inside = (boundary >= 0)[..., None]
        marks = (around[:, :, None] == levels[:, None]).flatten(2) & inside
        return torch.cat((inside, marks), -1).float()

    def _near(self, boundary: Tensor, subtree: Tensor) -> tuple[Int[Tensor, "3 N"], Int[Tensor, " N"]]:
        """Pairs of ends at most `reach` subtrees apart: (row, query, key) and which kind of pair each is."""
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

    def result(self) -> Attention:
        """The means over all that was added."""
        pairs = self.marked_pairs[0, 0]
        position = self.weight / pairs
        filled = position.nan_to_num(0.0)
        marked = _residual(self.marked, self.marked_pairs, filled)
        counts = self.marked_pairs.sum(-1)
        ends = (self.levels, 2 * self.shifts + 1)
        near = (self.levels, self.levels, self.reach + 1)
        mean = self.weight.sum(-1) / pairs.sum()
        spread = (pairs * filled.square()).sum(-1) / pairs.sum() - mean.square()
        return Attention(
            position.cpu().numpy(),
            _whole(pairs),
            (spread / (self.square / pairs.sum() - mean.square())).cpu().numpy(),
            marked[:, :, 0, 1:].unflatten(-1, ends).cpu().numpy(),
            _whole(counts[0, 1:].view(ends)),
            marked[:, :, 1:, 1:].unflatten(-1, ends).unflatten(2, ends).cpu().numpy(),
            _whole(counts[1:, 1:].reshape(*ends, *ends)),
            _residual(self.ends, self.ends_pairs, filled).unflatten(-1, near).cpu().numpy(),
            _whole(self.ends_pairs.sum(-1).view(near)),
        )


def _pairs_by_distance(marks: Float[Tensor, "B T M"]) -> Float[Tensor, "M M T"]:
    """How many pairs there are of a query kind, a key kind and a distance: correlations, by Fourier transform."""
    length = marks.shape[1]
    waves = torch.fft.rfft(marks.double(), 2 * length, dim=1).transpose(0, 1)  # (F, B, M)
    return torch.fft.irfft((waves.mT @ waves.conj()).movedim(0, -1), 2 * length)[..., :length].round()


def _residual(
    sums: Float[Tensor, "layers heads *kinds"],
    pairs: Float[Tensor, "*kinds P"],
    position: Float[Tensor, "layers heads P"],
) -> Float[Tensor, "layers heads *kinds"]:
    """Mean weight less mean position part of every kind of pair."""
    expected = torch.einsum("lhp,kp->lhk", position, pairs.flatten(0, -2)).view_as(sums)
    return (sums - expected) / pairs.sum(-1)


def _whole(counts: Tensor) -> np.ndarray:
    return counts.round().long().cpu().numpy()
