"""Whether a model looks ahead, by gradient: what a causal one computes at t owes nothing to a later token."""

import copy

import torch

from lm.model import Decoder
from synth.errors import UserError

LENGTH = 32  # long enough for any fixed reach of the papers, and a second's work
LEAST = 1e-6  # of the largest gradient at t: below it is rounding, as convolutions by Fourier transform leave it


def leaking_position(model: Decoder, length: int = LENGTH) -> tuple[int, int] | None:
    """The first pair (t, a later position) with a gradient of the stream at t, None when there is none.

    Asked is a shaken copy in eval mode. Raises UserError where it computes numbers that are not finite.
    """
    model = shaken(model).eval()
    device = model.embed.weight.device
    tokens = torch.arange(length, device=device)[None] * 7919 % model.vocab_size
    places = model.places(length)
    x = model.embedded(tokens, places.index).detach().requires_grad_()
    with torch.enable_grad():
        out = model.through(x, places)
    require_finite(model, out)
    weights = torch.randn(out.shape[-1], generator=torch.Generator().manual_seed(0)).to(out)
    for t in range(length - 1):
        (gradient,) = torch.autograd.grad(out[0, t] @ weights, x, retain_graph=True)
        size = gradient[0].abs().amax(-1)
        later = (~(size[t + 1 :] <= LEAST * size.max())).nonzero()
        if len(later):
            return t, t + 1 + int(later[0, 0])
    return None


def require_finite(model: Decoder, out: torch.Tensor) -> None:
    """Raise UserError where what a model computes is not finite: of such numbers no gradient says anything."""
    if not bool(out.isfinite().all()):
        name = type(model.blocks[0].mixer).__name__
        raise UserError(f"{name} computes numbers that are not finite, on tokens it has just begun with; mend forward")


def require_causality(model: Decoder) -> None:
    """Raise UserError that names the position which a model's tokens should not have seen."""
    leak = leaking_position(model, min(LENGTH, model.config.context))
    if leak is not None:
        raise UserError(
            f"{type(model.blocks[0].mixer).__name__} is not causal: its output at position {leak[0]} depends on the "
            f"input at position {leak[1]}; let each token see itself and earlier ones only (places.seen)"
        )


def shaken(model: Decoder) -> Decoder:
    """A copy whose weights are all moved a little, so that a path which begins at zero shows."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=0.1)
    return model
