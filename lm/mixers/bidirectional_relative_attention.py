"""Disentangled relative attention of an encoder (DeBERTa, arXiv 2006.03654, section 3.1), to both sides."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lm.layers.cache import State
from lm.layers.positions import Places
from lm.mixers.relative_attention import RelativeAttention


class TwoWayAttention(RelativeAttention):
    """The scores of RelativeAttention between all pairs, from a table of the distances i - j = 1-N .. N-1 (2N-1, D).

    As there, both content-to-position terms take the distance i - j, and every distance has a row of its own, where
    DeBERTa looks up j - i in one of the two and lets long distances share rows.
    """

    attention_flops = 12

    def forward(self, x: Float[Tensor, "B T D"], places: Places, state: State | None = None) -> Float[Tensor, "B T D"]:
        q, k, v = self._split(self.qkv(x), 3)
        return self.out((self._mix(q, k, places).to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], places: Places) -> Float[Tensor, "B H T T"]:
        """How much of each key's value goes to each query; 0 between documents."""
        q, k, _ = self._split(self.qkv(x), 3)
        return self._mix(q, k, places)

    def _mix(self, q: Tensor, k: Tensor, places: Places) -> Float[Tensor, "B H T T"]:
        assert places.distances is not None and places.allowed is not None
        length, middle = q.shape[-2], len(places.distances) // 2
        qr, kr = self._split(self.distance_qk(places.distances[middle - length + 1 : middle + length]), 2)
        scores = q @ k.mT + shifted(q @ kr.flip(1).mT) + shifted(k @ qr.mT).mT
        return (scores * self.scale).masked_fill(~places.allowed, -math.inf).softmax(-1)


def shifted(x: Float[Tensor, "*B T _"]) -> Float[Tensor, "*B T T"]:
    """From (..., T, 2T-1) to (..., T, T): entry (a, b) is that of row a and column b - a + T - 1.

    One column more and a new cut into rows of 2T-1 moves row a by a places, without a gather.
    """
    length = x.shape[-2]
    flat = F.pad(x, (0, 1)).flatten(-2)[..., length - 1 : length - 1 + length * (2 * length - 1)]
    return flat.unflatten(-1, (length, 2 * length - 1))[..., :length]
