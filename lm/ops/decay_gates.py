"""How the decays and the documents of a chunk fall into factors (see lm/ops/chunked_recurrence.py for names and
shapes)."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]


class Layout:
    """Between (B, T, G, X) and (M, C, X) for M = B N G pieces: N chunks of C tokens, the last filled up with zeros.

    X is the width of a key, or that of all values of a group, the heads side by side.
    """

    def __init__(self, v: Tensor, groups: int, size: int) -> None:
        self.rows, self.length, self.depth, self.groups, self.size = len(v), v.shape[1], v.shape[3], groups, size

    def cut(self, x: Tensor) -> Tensor:
        """(B, T, G, K) or (B, T, H, V), or (B, T, H) numbers of heads, to (M, C, X)."""
        x = x.reshape(self.rows, self.length, self.groups, -1)
        if self.length % self.size:
            x = F.pad(x, (0, 0, 0, 0, 0, -self.length % self.size))
        return x.unflatten(1, (-1, self.size)).transpose(2, 3).flatten(0, 2)

    def join(self, x: Tensor) -> Tensor:
        """Back to (B, T, G, X)."""
        return self.apart(x).transpose(2, 3).flatten(1, 2)[:, : self.length]

    def apart(self, x: Tensor) -> Tensor:
        """(M, ...) as (B, N, G, ...)."""
        return x.unflatten(0, (self.rows, -1, self.groups))

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, G, X) to (B, T, H, V)."""
        return x.unflatten(-1, (-1, self.depth)).flatten(2, 3)

    def together(self, state: Tensor | None) -> Tensor | None:
        """A state (B, H, K, V) as (B, G, K, X)."""
        return None if state is None else state.unflatten(1, (self.groups, -1)).transpose(2, 3).flatten(3)

    def split(self, state: Tensor) -> Tensor:
        """Back to (B, H, K, V)."""
        return state.unflatten(-1, (-1, self.depth)).transpose(2, 3).flatten(1, 2)


@cache
def causal(size: int, device: torch.device) -> Tensor:
    """1 where a token of a chunk (row) may look at another (column), else 0."""
    with torch.inference_mode(False):
        return torch.ones(size, size, device=device).tril()


def times(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else x * factor


class Gate:
    """Nothing decays. Of the state, the factors (M, K, 1) or (M, 1, X) say how much is left: `into` the middle of the
    chunk, `through` all of it, and `onto` its end of what the middle knows; None: all."""

    into: Tensor | None = None
    through: Tensor | None = None
    onto: Tensor | None = None

    def enter(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v with their factors."""
        return q, k, v

    def leave(self, out: Tensor) -> Tensor:
        """Outputs with theirs; of gradients of outputs the same."""
        return out

    def gradients(self, entered: tuple[Tensor, ...], passed: tuple[Tensor, Tensor], *grads: Tensor) -> Gradients:
        """Gradients of q, k, v and decay.

        entered: q, k, v, and the outputs before `leave`; grads: theirs; passed: the state after the chunk and its
        gradient. The sum of decays up to a token multiplies what the token asks for and divides what it brings, so
        that its gradient needs no more than these; that of the last token multiplies the state too.
        """
        dq, dk, dv, _ = grads
        return dq, dk, dv, None

    def _marks(self, decay: Tensor) -> Tensor:
        """Sets scale, E, and inverse, 1 / E; returns into, through and onto (M, 3, K or R)."""
        total = decay.cumsum(1)
        middle, end = total[:, total.shape[1] // 2, None], total[:, -1:]
        self.scale = (total - middle).exp_()
        self.inverse = self.scale.reciprocal()
        return torch.cat((middle, end, end - middle), 1).exp_()


def _since(sums: Tensor, passed: Tensor) -> Tensor:
    """Gradients (M, C, X) of decays from those of their sums up to each token, and `passed` (M, 1, X) of the last."""
    later = causal(sums.shape[1], sums.device).T
    return torch.bmm(later.expand(len(sums), -1, -1), sums) + passed


class ChannelGate(Gate):
    """Every channel of a key decays by itself: decay (M, C, K)."""

    def __init__(self, decay: Tensor) -> None:
        self.into, self.through, self.onto = self._marks(decay)[..., None].unbind(1)

    def enter(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q * self.scale, k * self.inverse, v

    def gradients(self, entered: tuple[Tensor, ...], passed: tuple[Tensor, Tensor], *grads: Tensor) -> Gradients:
        (q, k, _, _), (dq, dk, dv, _) = entered, grads
        last = (passed[0] * passed[1]).sum(-1)[:, None]
        return dq * self.scale, dk * self.inverse, dv, _since(q * dq - k * dk, last)


class HeadGate(Gate):
    """Every head decays as a whole: decay (M, C, R) for the R heads of a group, each with values of width `depth`."""

    def __init__(self, decay: Tensor, depth: int) -> None:
        self.depth = depth
        self.into, self.through, self.onto = self._marks(decay).repeat_interleave(depth, -1)[:, :, None].unbind(1)

    def enter(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, self._scaled(v, self.inverse)

    def leave(self, out: Tensor) -> Tensor:
        return self._scaled(out, self.scale)

    def gradients(self, entered: tuple[Tensor, ...], passed: tuple[Tensor, Tensor], *grads: Tensor) -> Gradients:
        (_, _, v, out), (dq, dk, dv, dout) = entered, grads
        sums = self._summed(out * dout) - self._summed(v * dv)
        last = self._summed((passed[0] * passed[1]).sum(1, keepdim=True))
        return dq, dk, self._scaled(dv, self.inverse), _since(sums, last)

    def _scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        return (x.unflatten(-1, (-1, self.depth)) * factor[..., None]).flatten(-2)

    def _summed(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.depth)).sum(-1)


class Borders:
    """What documents that begin within the chunks cut off; without any, what comes later.

    mask (C, C) or (M, C, C): what a token may look at; open (M, C, 1): it sees the state before the chunk; kept
    (M, C, 1): the state after the chunk sees it; through (M, 1, 1): the chunk lets the state pass. 1 or 0 each, and
    None for 1 everywhere.
    """

    open: Tensor | None = None
    kept: Tensor | None = None
    through: Tensor | None = None

    def __init__(self, fresh: Tensor | None, layout: Layout, device: torch.device) -> None:
        self.mask = causal(layout.size, device)
        if fresh is None:
            return
        number = layout.cut(fresh[:, :, None].expand(-1, -1, layout.groups).float()).cumsum(1)
        self.mask = (number == number.mT) * self.mask
        self.open, self.kept = (number == 0).float(), (number == number[:, -1:]).float()
        self.through = self.open[:, -1:]
