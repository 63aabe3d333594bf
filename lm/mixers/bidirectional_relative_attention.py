"""Bidirectional disentangled relative attention (DeBERTa, arXiv 2006.03654, section 3.1), for encoders."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lm.layers.cache import LayerCache
from lm.layers.context import SequenceContext
from lm.mixers.relative_attention import RelativeAttention


class BidirectionalRelativeAttention(RelativeAttention):
    """The scores of RelativeAttention between all pairs, from a table (2N-1, D) of the distances i - j = 1-N .. N-1.

    Unlike in DeBERTa, both terms with positions use the distance i - j (not j - i in one), and long distances do not
    share rows.
    """

    attention_flops = 12

    def forward(
        self, x: Float[Tensor, "B T D"], context: SequenceContext, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T D"]:
        q, k, v = self._split_heads(self.qkv(x), 3)
        return self.out((self._weights(q, k, context).to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def weights(self, x: Float[Tensor, "B T D"], context: SequenceContext) -> Float[Tensor, "B H T T"]:
        """Attention weights."""
        q, k, _ = self._split_heads(self.qkv(x), 3)
        return self._weights(q, k, context)

    def _weights(self, q: Tensor, k: Tensor, context: SequenceContext) -> Float[Tensor, "B H T T"]:
        assert context.distances is not None and context.allowed is not None
        length, middle = q.shape[-2], len(context.distances) // 2
        qr, kr = self._split_heads(self.distance_qk(context.distances[middle - length + 1 : middle + length]), 2)
        scores = q @ k.mT + relative_shift(q @ kr.flip(1).mT) + relative_shift(k @ qr.mT).mT
        return (scores * self.scale).masked_fill(~context.allowed, -math.inf).softmax(-1)


def relative_shift(x: Float[Tensor, "*B T _"]) -> Float[Tensor, "*B T T"]:
    """Move entry (a, b - a + T - 1) of (..., T, 2T-1) to (a, b) of (..., T, T).

    Padding one column and reshaping into rows of 2T-1 shifts row a by a, without a gather.
    """
    length = x.shape[-2]
    flat = F.pad(x, (0, 1)).flatten(-2)[..., length - 1 : length - 1 + length * (2 * length - 1)]
    return flat.unflatten(-1, (length, 2 * length - 1))[..., :length]
