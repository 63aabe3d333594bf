"""The multi-head position-based linear probe of Part 1 (arXiv 2305.13673, equation 4.2; 4.3 with a largest offset):

    G_i(x) = sum over heads r and positions k of  w_r(i, k) f_r(E_k(x)),   w_r(i, k) = softmax over k of P_ir . P_kr

E_k: the hidden state at position k; f_r: a linear map to one logit per class; P: trainable vectors, one per position
and head. The weights w depend on positions only, never on content, so G is linear in the hidden states. The plain
linear probe, one state and one linear classifier, is in probing/linear/logistic.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class PositionProbes(nn.Module):
    """One probe for each of Y layers and V targets, fitted together; they share no parameter.

    classes (V,): number of classes of each target; C is the largest. width: D of the states. length: largest number of
    positions. heads (H), position_width: of P. max_offset: largest distance of the positions that a probe reads (None:
    any; 0: the position alone, the diagonal probe of equation 4.3, for which one head suffices; 1: tridiagonal).
    """

    absent: Tensor  # (V, 1, 1, C): classes that a target lacks

    def __init__(
        self,
        layers: int,
        classes: Sequence[int],
        width: int,
        length: int,
        heads: int = 16,
        position_width: int = 1024,
        max_offset: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.heads, self.max_offset, self.classes = 1 if max_offset == 0 else heads, max_offset, tuple(classes)
        most = max(classes)
        self.weight = nn.Parameter(torch.empty(layers, width, len(classes), self.heads, most))
        self.weight.data.normal_(0, width**-0.5 / self.heads, generator=generator)
        self.bias = nn.Parameter(torch.zeros(layers, len(classes), 1, 1, most))
        self.position_vectors = None
        if max_offset != 0:
            self.position_vectors = nn.Parameter(torch.empty(layers, len(classes), self.heads, length, position_width))
            # scores near 1 with itself and near 0 with others: heads start with wide windows and can narrow them
            self.position_vectors.data.normal_(0, position_width**-0.5, generator=generator)
        absent = torch.arange(most) >= torch.tensor(classes)[:, None, None, None]
        self.register_buffer("absent", absent, persistent=False)

    def forward(self, states: Float[Tensor, "Y B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "Y V B T C"]:
        """Logits, -inf for classes that a target lacks. States at padding must be 0; logits there are meaningless."""
        layers, rows, length, width = states.shape
        read = torch.bmm(states.reshape(layers, -1, width), self.weight.flatten(2))
        read = read.view(layers, rows, length, len(self.classes), self.heads, -1)
        if self.position_vectors is None:
            mixed = read[..., 0, :].movedim(3, 1)
        else:
            mixed = self._mix_positions(read.permute(0, 3, 4, 2, 1, 5), lengths)
        return (mixed + self.bias).masked_fill(self.absent, -torch.inf)

    def _mix_positions(
        self, read: Float[Tensor, "Y V H T B C"], lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "Y V B T C"]:
        length = read.shape[3]
        weights = self.attention_weights(length)
        mixed = (weights @ read.flatten(4)).view(read.shape)
        # softmax denominators over the positions of each document
        total = weights.cumsum(-1)[..., lengths - 1].clamp_min(1e-12)[..., None]
        return (mixed / total).sum(2).transpose(2, 3)

    def attention_weights(self, length: int) -> Float[Tensor, "Y V H T T"]:
        """Numerators of w: exp(P_i.P_k - P_i.P_i), 0 beyond max_offset. That of k = i is 1, so no sum is 0."""
        assert self.position_vectors is not None
        vectors = self.position_vectors[..., :length, :]
        scores = vectors @ vectors.mT
        scores = scores - scores.diagonal(dim1=-2, dim2=-1)[..., None]
        weights = scores.clamp_max(30).exp()
        if self.max_offset is None:
            return weights
        steps = torch.arange(length, device=weights.device)
        return weights * ((steps[:, None] - steps).abs() <= self.max_offset)


@dataclass(frozen=True)
class StateBatch:
    """states (Y, B, T, D), 0 at padding; lengths (B,); labels (V, B, T), -1 for none."""

    states: Tensor
    lengths: Tensor
    labels: Tensor


def fit_position_probes(
    probes: nn.Module, batches: Iterable[StateBatch], updates: int, lr: float = 3e-3
) -> Float[np.ndarray, "updates Y V"]:
    """Train all probes, each on its own cross-entropy, with the paper's AdamW and linear decay to 0. Returns the losses
    in nats.

    probes: PositionProbes, or a module that returns the logits of several of them in one tensor. batches: `updates` of
    them, one a step.
    """
    losses = (probe_cross_entropy(probes(batch.states, batch.lengths), batch.labels) for batch in batches)
    return minimize(probes, losses, updates, lr, betas=(0.9, 0.98), weight_decay=1e-3)


def minimize(
    probes: nn.Module,
    losses: Iterable[Float[Tensor, "*S"]],
    updates: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float = 1e-8,
) -> Float[np.ndarray, " updates *S"]:
    """Minimize the sum of the probes' losses with AdamW and linear decay to 0. Returns the losses of every step.

    losses: a lazy iterator that computes the losses of each of the `updates` steps with the parameters of that moment.
    Probes that share no parameter are trained as if alone, since Adam is invariant to the scale of gradients.
    """
    optimizer = torch.optim.AdamW(probes.parameters(), lr, betas, eps, weight_decay, fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / updates)
    history = []
    for step_losses in losses:
        optimizer.zero_grad()
        step_losses.sum().backward()
        optimizer.step()
        decay.step()
        history.append(step_losses.detach())
    return torch.stack(history).cpu().numpy()


def probe_cross_entropy(logits: Float[Tensor, "Y V B T C"], labels: Int[Tensor, "V B T"]) -> Float[Tensor, "Y V"]:
    """Mean over the labelled positions of each target (nats), 0 for a batch without any."""
    classes = logits.shape[-1]
    targets = labels.expand(len(logits), *labels.shape)
    nats = F.cross_entropy(logits.reshape(-1, classes), targets.flatten(), reduction="none", ignore_index=-1)
    return nats.view(targets.shape).sum((2, 3)) / (labels >= 0).sum((1, 2)).clamp_min(1)
