"""Check by gradient that a model's output at t depends on no token that t may not see."""

import copy

import torch

from lm.model import Decoder
from synth.errors import UserError

LENGTH = 32  # tokens: longer than any fixed window of the papers, checked in a second
MIN_RATIO = 1e-6  # to the largest gradient at t; smaller ones are rounding errors, as of convolutions by FFT

FAULTS = (  # documents per row, fault, mend
    (1, "is not causal", "let each token see itself and earlier ones only"),
    (2, "does not keep isolated documents apart", "let each token see those of its own document only"),
)


def find_causality_violation(model: Decoder, length: int = LENGTH, documents: int = 1) -> tuple[int, int] | None:
    """The first pair (t, s) where the residual stream at t has a gradient at an input s that t may not see, or None.

    Forbidden are later positions of a causal model, and positions of another of the `documents` into which the row is
    cut. Checks a perturbed copy in eval mode. Raises UserError if its outputs are not finite.
    """
    model = perturbed_copy(model).eval()
    device = model.embed.weight.device
    tokens = torch.arange(length, device=device)[None] * 7919 % model.vocab_size
    number = torch.arange(length, device=device)[None] * documents // length
    context = model.make_context(length, number if documents > 1 else None)
    x = model.embed_tokens(tokens, context.index).detach().requires_grad_()
    with torch.enable_grad():
        out = model.run_blocks(x, context)
    require_finite(model, out)
    weights = torch.randn(out.shape[-1], generator=torch.Generator().manual_seed(0)).to(out)
    visible = context.visible.view(length, length)
    for t in range(length):
        (gradient,) = torch.autograd.grad(out[0, t] @ weights, x, retain_graph=True)
        size = gradient[0].abs().amax(-1)
        leaks = (~(size <= MIN_RATIO * size.max()) & ~visible[t]).nonzero()
        if len(leaks):
            return t, int(leaks[0, 0])
    return None


def require_finite(model: Decoder, out: torch.Tensor) -> None:
    """Raise UserError if a model's output is not finite, as its gradients would then show nothing."""
    if not bool(out.isfinite().all()):
        name = type(model.blocks[0].mixer).__name__
        raise UserError(f"{name} computes numbers that are not finite, on tokens it has just begun with; mend forward")


def require_causality(model: Decoder, document_mask: bool = False) -> None:
    """Raise UserError, with both positions, if a token of a causal model sees a later one, or (with document_mask) if
    a token of any model sees another document of its row."""
    for documents, fault, mend in FAULTS[: 1 + document_mask]:
        leak = find_causality_violation(model, min(LENGTH, model.config.max_seq_len), documents)
        if leak is not None:
            raise UserError(
                f"{type(model.blocks[0].mixer).__name__} {fault}: its output at position {leak[0]} depends on the "
                f"input at position {leak[1]}; {mend} (context.visible)"
            )


def perturbed_copy(model: Decoder) -> Decoder:
    """A copy with noise added to all weights, so that paths whose weights start at zero have gradients."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter), alpha=0.1)
    return model
