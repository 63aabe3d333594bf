"""Linear probes: what can be read from hidden states by a map that is linear in them.

PositionProbes is the multi-head position-based probe of Part 1 (arXiv 2305.13673, equation 4.2; 4.3 with a reach):

    G_i(x) = sum over heads r and positions k of  w_r(i, k) f_r(E_k(x)),   w_r(i, k) = softmax over k of P_ir . P_kr

E_k: the hidden state at position k; f_r: a linear map to one number a class; P: trainable vectors, one a position and
head. The weights w know positions only, never content, so G is linear in the hidden states and cannot compute what
the model has not. The plain linear probe, one state and one linear classifier, is in probing/linear/logistic.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class PositionProbes(nn.Module):
    """One probe for each of Y layers and V targets, fitted together; they share nothing but the states they read.

    classes (V,): how many each target has; width D: of the states; length: most positions; heads H, position_width:
    of P; reach: how far from a position the probe may look (None: everywhere; 0: at itself, the diagonal probe of
    equation 4.3, where heads change nothing and there is one; 1: tridiagonal).
    """

    absent: Tensor  # (V, 1, 1, C): which classes a target has not

    def __init__(
        self,
        layers: int,
        classes: Sequence[int],
        width: int,
        length: int,
        heads: int = 16,
        position_width: int = 1024,
        reach: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.heads, self.reach, self.classes = 1 if reach == 0 else heads, reach, tuple(classes)
        most = max(classes)
        self.weight = nn.Parameter(torch.empty(layers, width, len(classes), self.heads, most))
        self.weight.data.normal_(0, width**-0.5 / self.heads, generator=generator)
        self.bias = nn.Parameter(torch.zeros(layers, len(classes), 1, 1, most))
        self.positions = None
        if reach != 0:
            self.positions = nn.Parameter(torch.empty(layers, len(classes), self.heads, length, position_width))
            # near 1 with itself and near 0 with others: heads begin with wide windows and close them where it helps
            self.positions.data.normal_(0, position_width**-0.5, generator=generator)
        absent = torch.arange(most) >= torch.tensor(classes)[:, None, None, None]
        self.register_buffer("absent", absent, persistent=False)

    def forward(self, states: Float[Tensor, "Y B T D"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "Y V B T C"]:
        """Logits, -inf for classes that a target has not; states at padding must be 0 and what is said there means
        nothing."""
        layers, rows, length, width = states.shape
        read = torch.bmm(states.reshape(layers, -1, width), self.weight.flatten(2))
        read = read.view(layers, rows, length, len(self.classes), self.heads, -1)
        if self.positions is None:
            mixed = read[..., 0, :].movedim(3, 1)
        else:
            mixed = self._mixed(read.permute(0, 3, 4, 2, 1, 5), lengths)
        return (mixed + self.bias).masked_fill(self.absent, -torch.inf)

    def _mixed(self, read: Float[Tensor, "Y V H T B C"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "Y V B T C"]:
        length = read.shape[3]
        seen = self.seen(length)
        mixed = (seen @ read.flatten(4)).view(read.shape)
        # the softmax is over the positions that the document has
        total = seen.cumsum(-1)[..., lengths - 1].clamp_min(1e-12)[..., None]
        return (mixed / total).sum(2).transpose(2, 3)

    def seen(self, length: int) -> Float[Tensor, "Y V H T T"]:
        """Numerators of w: exp(P_i.P_k - P_i.P_i), 0 out of reach. A position's own is 1, so that no sum is 0."""
        assert self.positions is not None
        places = self.positions[..., :length, :]
        scores = places @ places.mT
        scores = scores - scores.diagonal(dim1=-2, dim2=-1)[..., None]
        seen = scores.clamp_max(30).exp()
        if self.reach is None:
            return seen
        steps = torch.arange(length, device=seen.device)
        return seen * ((steps[:, None] - steps).abs() <= self.reach)


@dataclass(frozen=True)
class Batch:
    """states (Y, B, T, D), 0 at padding; lengths (B,); labels (V, B, T), -1 where nothing is asked."""

    states: Tensor
    lengths: Tensor
    labels: Tensor


def fit(
    probes: nn.Module,
    batches: Iterable[Batch],
    updates: int,
    lr: float = 3e-3,
    betas: tuple[float, float] = (0.9, 0.98),
    weight_decay: float = 1e-3,
) -> Float[np.ndarray, "updates Y V"]:
    """Train all probes, each on its own cross-entropy, with AdamW and a linear decay to 0; their losses in nats.

    probes: PositionProbes, or a module that holds several of them and gives their logits in one tensor.

    One step a batch; there must be `updates` of them. The sum of the losses is minimised: as no two probes share a
    parameter and Adam divides by the gradient's size, each is trained as if it were alone.
    """
    losses = (cross_entropy(probes(batch.states, batch.lengths), batch.labels) for batch in batches)
    return descend(probes, losses, updates, lr, betas, weight_decay)


def descend(
    probes: nn.Module,
    losses: Iterable[Float[Tensor, "*S"]],
    updates: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.98),
    weight_decay: float = 1e-3,
    eps: float = 1e-8,
) -> Float[np.ndarray, "updates *S"]:
    """Lower the sum of the losses of probes, a step each time that `losses` comes up with them, which it must do lazily
    and `updates` times; what they were, in nats."""
    optimizer = torch.optim.AdamW(probes.parameters(), lr, betas, eps, weight_decay, fused=True)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / updates)
    found = []
    for each in losses:
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
        decay.step()
        found.append(each.detach())
    return torch.stack(found).cpu().numpy()


def cross_entropy(logits: Float[Tensor, "Y V B T C"], labels: Int[Tensor, "V B T"]) -> Float[Tensor, "Y V"]:
    """Mean over the labelled positions of each target, in nats; 0 where a batch has none."""
    classes = logits.shape[-1]
    targets = labels.expand(len(logits), *labels.shape)
    lost = F.cross_entropy(logits.reshape(-1, classes), targets.flatten(), reduction="none", ignore_index=-1)
    return lost.view(targets.shape).sum((2, 3)) / (labels >= 0).sum((1, 2)).clamp_min(1)
