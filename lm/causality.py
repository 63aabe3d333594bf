"""Whether a model looks where it may not, by gradient: what it computes at t owes nothing to a token it may not see."""

import copy

import torch

from lm.model import Decoder
from synth.errors import UserError

LENGTH = 32  # long enough for any fixed reach of the papers, and a second's work
LEAST = 1e-6  # of the largest gradient at t: below it is rounding, as convolutions by Fourier transform leave it

FAULTS = (  # documents of the row in which each shows
    (1, "is not causal", "let each token see itself and earlier ones only"),
    (2, "does not keep isolated documents apart", "let each token see those of its own document only"),
)


def leaking_position(model: Decoder, length: int = LENGTH, documents: int = 1) -> tuple[int, int] | None:
    """The first pair (t, a position that t may not see) with a gradient of the stream at t, None when there is none.

    Later positions a causal model may not see, and none may see those of another of the row's isolated `documents`.
    Asked is a shaken copy in eval mode. Raises UserError where it computes numbers that are not finite.
    """
    model = shaken(model).eval()
    device = model.embed.weight.device
    tokens = torch.arange(length, device=device)[None] * 7919 % model.vocab_size
    number = torch.arange(length, device=device)[None] * documents // length
    places = model.places(length, number if documents > 1 else None)
    x = model.embedded(tokens, places.index).detach().requires_grad_()
    with torch.enable_grad():
        out = model.through(x, places)
    require_finite(model, out)
    weights = torch.randn(out.shape[-1], generator=torch.Generator().manual_seed(0)).to(out)
    seen = places.seen.view(length, length)
    for t in range(length):
        (gradient,) = torch.autograd.grad(out[0, t] @ weights, x, retain_graph=True)
        size = gradient[0].abs().amax(-1)
        leaks = (~(size <= LEAST * size.max()) & ~seen[t]).nonzero()
        if len(leaks):
            return t, int(leaks[0, 0])
    return None


def require_finite(model: Decoder, out: torch.Tensor) -> None:
    """Raise UserError where what a model computes is not finite: of such numbers no gradient says anything."""
    if not bool(out.isfinite().all()):
        name = type(model.blocks[0].mixer).__name__
        raise UserError(f"{name} computes numbers that are not finite, on tokens it has just begun with; mend forward")


def require_causality(model: Decoder, isolate: bool = False) -> None:
    """Raise UserError that names the position which a model's tokens should not have seen: a later one, or with
    `isolate` one of another document in the row. An encoder may see all of its document."""
    for documents, fault, mend in FAULTS[: 1 + isolate]:
        leak = leaking_position(model, min(LENGTH, model.config.context), documents)
        if leak is not None:
            raise UserError(
                f"{type(model.blocks[0].mixer).__name__} {fault}: its output at position {leak[0]} depends on the "
                f"input at position {leak[1]}; {mend} (places.seen)"
            )


def shaken(model: Decoder) -> Decoder:
    """A copy whose weights are all moved a little, so that a path which begins at zero shows."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=0.1)
    return model
