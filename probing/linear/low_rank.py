"""Linear probes with a trainable low-rank update of the input embedding of a frozen model.

Used for the P- and Q-probes of Part 3.1 (arXiv 2309.14316, section 5) and the V-probe of Part 2.1 (arXiv 2407.20311,
section 4). The update adapts the model to the new task: the input embedding E (never the output table, even if the two
are tied) becomes E + A B, of rank r, with A zero and B normal at first as for an embedding in LoRA (arXiv 2106.09685).
Everything else is frozen. The state after the final norm is normalized again and read by one linear map per target.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lm.inference.hooks import eval_mode
from lm.model import Decoder
from probing.linear.position_probe import minimize, probe_cross_entropy
from synth import UserError

Norm = Literal["layer", "batch"]


@dataclass(frozen=True)
class ProbeBatch:
    """tokens (B, T), padded on the right; positions (B, K) that are probed; labels (Y, B, K), -1 for none."""

    tokens: Tensor
    positions: Tensor
    labels: Tensor


class LowRankProbes(nn.Module):
    """One probe for each of Y targets, the same at all probed positions. They share no parameter; the probed causal
    model is an argument of `forward`, not a submodule.

    classes (Y,): number of classes of each target; C is the largest. rank: of the update, 0 for a plain linear probe.
    norm: normalization of the states before the linear map, layer norm or batch norm, with a trainable scale and shift.
    Raises UserError for a rank larger than that of the embedding.
    """

    absent: Tensor  # (Y, 1, C): classes that a target lacks

    def __init__(self, model: Decoder, classes: Sequence[int], rank: int, norm: Norm = "layer", seed: int = 0) -> None:
        super().__init__()
        width, targets, most = model.config.d_model, len(classes), max(classes)
        if not 0 <= rank <= min(width, model.vocab_size):
            raise UserError(f"rank={rank} is no rank of an embedding of {model.vocab_size} x {width}; lower it")
        generator = torch.Generator().manual_seed(seed)
        self.lora_a = nn.Parameter(torch.zeros(targets, model.vocab_size, rank))
        self.lora_b = nn.Parameter(torch.empty(targets, rank, width).normal_(generator=generator))
        self.batch_norm = nn.BatchNorm1d(targets * width, affine=False) if norm == "batch" else None
        self.scale = nn.Parameter(torch.ones(targets, 1, width))
        self.shift = nn.Parameter(torch.zeros(targets, 1, width))
        self.weight = nn.Parameter(torch.empty(targets, width, most).normal_(0, width**-0.5, generator=generator))
        self.bias = nn.Parameter(torch.zeros(targets, 1, most))
        self.register_buffer("absent", torch.arange(most) >= torch.tensor(classes)[:, None, None], persistent=False)
        self.to(model.embed.weight.device)

    def forward(
        self, model: Decoder, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B K"], with_update: bool = True
    ) -> Float[Tensor, "Y B K C"]:
        """Logits at the positions, -inf for classes that a target lacks. with_update=False: with the model's own
        embedding, without gradients through the model."""
        if with_update and self.lora_b.shape[1]:
            states = self._updated_states(model, tokens, positions)
        else:
            with torch.no_grad():  # one forward pass for all targets
                context = model.make_context(tokens.shape[1])
                stream = model.run_blocks(model.embed_tokens(tokens, context.index), context)
                states = _states_at(model, stream[None], positions)
        return self._logits(states.expand(len(self.bias), -1, -1, -1))

    def _updated_states(self, model: Decoder, tokens: Tensor, positions: Tensor) -> Float[Tensor, "Y B K D"]:
        context = model.make_context(tokens.shape[1])
        update = torch.einsum("ybtr,yrd->ybtd", self.lora_a[:, tokens], self.lora_b)
        embedded = (model.embed_tokens(tokens, context.index) + update).flatten(0, 1)  # all targets in one large batch
        return _states_at(model, model.run_blocks(embedded, context).unflatten(0, (len(update), -1)), positions)

    def _logits(self, states: Float[Tensor, "Y B K D"]) -> Float[Tensor, "Y B K C"]:
        rows = states.flatten(1, 2)
        if self.batch_norm is None:
            normed = F.layer_norm(rows, rows.shape[-1:])
        else:  # separate features for each target's coordinates
            normed = self.batch_norm(rows.movedim(0, 1).flatten(1)).unflatten(1, (len(rows), -1)).movedim(1, 0)
        logits = (normed * self.scale + self.shift) @ self.weight + self.bias
        return logits.masked_fill(self.absent, -torch.inf).unflatten(1, states.shape[1:3])


def _states_at(
    model: Decoder, stream: Float[Tensor, "Y B T D"], positions: Int[Tensor, "B K"]
) -> Float[Tensor, "Y B K D"]:
    """States after the final norm at the positions."""
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    return model.norm(stream[:, rows, positions])


@contextmanager
def freeze_parameters(model: nn.Module) -> Iterator[None]:
    """Context manager: the model in eval mode and without gradients for its parameters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with eval_mode(model):
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)


def fit_low_rank_probes(
    probes: LowRankProbes,
    model: Decoder,
    batches: Iterable[ProbeBatch],
    updates: int,
    head_updates: int = 0,
    lr: float = 1e-3,
    weight_decay: float = 0.3,
) -> Float[np.ndarray, "updates Y"]:
    """Train all probes, each on its own cross-entropy, with AdamW (eps 1e-6, as in Part 3.1) and linear decay to 0.
    Returns the losses in nats. Takes one batch a step: `head_updates` + `updates` in all.

    head_updates: steps before the others, with a decay of their own, that train norm and linear map only. One costs a
    forward pass for all targets together; the others take a forward and a backward pass for each target.
    """
    stream, losses = iter(batches), np.zeros((0, len(probes.bias)), np.float32)
    with freeze_parameters(model):
        for count, with_update in ((head_updates, False), (updates, True)):
            step_losses = (_losses(probes, model, batch, with_update) for batch in islice(stream, count))
            if count:
                losses = minimize(probes.train(), step_losses, count, lr, (0.9, 0.999), weight_decay, 1e-6)
    return losses


def _losses(probes: LowRankProbes, model: Decoder, batch: ProbeBatch, with_update: bool) -> Float[Tensor, " Y"]:
    logits = probes(model, batch.tokens, batch.positions, with_update)
    return probe_cross_entropy(logits[None], batch.labels)[0]


@torch.inference_mode()
def predict(probes: LowRankProbes, model: Decoder, batches: Iterable[ProbeBatch]) -> Int[np.ndarray, "Y N K"]:
    """The most likely class of each target at the K positions of all N rows."""
    probes.eval()
    with freeze_parameters(model):
        classes = [probes(model, batch.tokens, batch.positions).argmax(-1).cpu() for batch in batches]
    return torch.cat(classes, 1).numpy()
