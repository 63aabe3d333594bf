"""Positions and attention masks of a forward pass."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SequenceContext:
    """Positions and attention masks of one batch, shared by all layers of a forward pass.

    index (T,) or (B, T): position of each token within its document. allowed (B, 1, T, T): True where query i may see
    key j; None: all j <= i. angles: rotary cosines and sines, each (T, 1, R/2) or (B, T, 1, R/2). distances (N, D):
    table of distance embeddings of relative and position_only models. bias (1 or B, H, Q, T): attention bias of the
    last Q queries in alibi and half_alibi, -inf where a head may not see a key.
    """

    index: Tensor
    allowed: Tensor | None = None
    angles: tuple[Tensor, Tensor] | None = None
    distances: Tensor | None = None
    bias: Tensor | None = None

    @property
    def visible(self) -> Tensor:
        """True where query i may see key j: (T, T), or (B, 1, T, T) with several documents per row."""
        return self.allowed if self.allowed is not None else self.index[:, None] >= self.index

    @property
    def mask(self) -> Tensor | None:
        """attn_mask of scaled_dot_product_attention, boolean or additive; None for plain causal attention."""
        return self.allowed if self.bias is None else self.bias

    def truncate(self, length: int) -> "SequenceContext":
        """The context of the first `length` tokens; for rows with one document each."""
        angles = (self.angles[0][:length], self.angles[1][:length]) if self.angles is not None else None
        bias = self.bias[..., :length, :length] if self.bias is not None else None
        return SequenceContext(self.index[:length], None, angles, self.distances, bias)
