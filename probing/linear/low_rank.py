"""Linear probes that may also change the embedding a little: a frozen model, reading tokens in a new way.

The instrument of the P- and Q-probes of Part 3.1 (arXiv 2309.14316, section 5) and of the V-probe of Part 2.1
(arXiv 2407.20311, section 4). A model may need to be told that it is now asked something else, which it cannot be in
words; so the embedding E of the tokens that it reads (never the output table, if the two are tied) becomes E + A B, of
rank r. All else stays as it was trained. What is read is the state after the last norm, normed once more, by one linear
map a question. The update starts at nothing as that of an embedding in LoRA (arXiv 2106.09685): A zero, B normal.
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

from lm.inference.hooks import evaluating
from lm.model import Decoder
from probing.linear.position_probe import cross_entropy, descend
from synth import UserError

Norm = Literal["layer", "batch"]


@dataclass(frozen=True)
class Asked:
    """A batch: tokens (B, T), padded on the right; positions (B, K) where answers are read; labels (Y, B, K) of every
    question, -1 where it is not asked."""

    tokens: Tensor
    positions: Tensor
    labels: Tensor


class UpdateProbes(nn.Module):
    """One probe for each of Y questions about a causal model; they share nothing but the model, which is no part of
    them. At all of a text's positions a question has the same probe.

    classes (Y,): how many answers each question has; rank r: of the update, 0 for a plain linear probe; norm: of the
    states before the linear map, over the numbers of one state ("layer") or of one coordinate in all states of a batch
    ("batch"), with a scale and a shift to learn. Raises UserError for a rank that the embedding cannot have.
    """

    absent: Tensor  # (Y, 1, C): which classes a question has not

    def __init__(self, model: Decoder, classes: Sequence[int], rank: int, norm: Norm = "layer", seed: int = 0) -> None:
        super().__init__()
        width, asked, most = model.config.width, len(classes), max(classes)
        if not 0 <= rank <= min(width, model.vocab_size):
            raise UserError(f"rank={rank} is none that a table of {model.vocab_size} x {width} can have; lower it")
        generator = torch.Generator().manual_seed(seed)
        self.coefficients = nn.Parameter(torch.zeros(asked, model.vocab_size, rank))
        self.directions = nn.Parameter(torch.empty(asked, rank, width).normal_(generator=generator))
        self.batch_norm = nn.BatchNorm1d(asked * width, affine=False) if norm == "batch" else None
        self.scale, self.shift = nn.Parameter(torch.ones(asked, 1, width)), nn.Parameter(torch.zeros(asked, 1, width))
        self.weight = nn.Parameter(torch.empty(asked, width, most).normal_(0, width**-0.5, generator=generator))
        self.bias = nn.Parameter(torch.zeros(asked, 1, most))
        absent = torch.arange(most) >= torch.tensor(classes)[:, None, None]
        self.register_buffer("absent", absent, persistent=False)
        self.to(model.embed.weight.device)

    def forward(
        self, model: Decoder, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B K"], updated: bool = True
    ) -> Float[Tensor, "Y B K C"]:
        """Logits at the positions, -inf for classes that a question has not; updated=False: by the model's own
        embedding, whose states are then no part of what is differentiated."""
        if updated and self.directions.shape[1]:
            states = self._updated(model, tokens, positions)
        else:
            with torch.no_grad():  # the same for all questions
                places = model.places(tokens.shape[1])
                states = _read(model, model.through(model.embedded(tokens, places.index), places)[None], positions)
        return self._answers(states.expand(len(self.bias), -1, -1, -1))

    def _updated(self, model: Decoder, tokens: Tensor, positions: Tensor) -> Float[Tensor, "Y B K D"]:
        places = model.places(tokens.shape[1])
        update = torch.einsum("ybtr,yrd->ybtd", self.coefficients[:, tokens], self.directions)
        embedded = (model.embedded(tokens, places.index) + update).flatten(0, 1)  # all questions in one large batch
        return _read(model, model.through(embedded, places).unflatten(0, (len(update), -1)), positions)

    def _answers(self, states: Float[Tensor, "Y B K D"]) -> Float[Tensor, "Y B K C"]:
        rows = states.flatten(1, 2)
        if self.batch_norm is None:
            normed = F.layer_norm(rows, rows.shape[-1:])
        else:  # every question's coordinates are features of their own
            normed = self.batch_norm(rows.movedim(0, 1).flatten(1)).unflatten(1, (len(rows), -1)).movedim(1, 0)
        logits = (normed * self.scale + self.shift) @ self.weight + self.bias
        return logits.masked_fill(self.absent, -torch.inf).unflatten(1, states.shape[1:3])


def _read(model: Decoder, stream: Float[Tensor, "Y B T D"], positions: Int[Tensor, "B K"]) -> Float[Tensor, "Y B K D"]:
    """The states after the last norm at the positions."""
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    return model.norm(stream[:, rows, positions])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode, and no gradients for any parameter of the model, while this is open."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with evaluating(model):
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)


def fit(
    probes: UpdateProbes,
    model: Decoder,
    batches: Iterable[Asked],
    updates: int,
    head_updates: int = 0,
    lr: float = 1e-3,
    weight_decay: float = 0.3,
) -> Float[np.ndarray, "updates Y"]:
    """Train all probes, each on its own cross-entropy, with AdamW (eps 1e-6, as in Part 3.1) and a linear decay to 0;
    the losses in nats. One step a batch, of which `head_updates` + `updates` must come.

    head_updates: steps before, with a decay of their own, in which only norm and linear map learn. They cost a forward
    pass for all questions together, where the others take a forward and a backward pass for each.
    """
    stream, losses = iter(batches), np.zeros((0, len(probes.bias)), np.float32)
    with frozen(model):
        for count, updated in ((head_updates, False), (updates, True)):
            lots = islice(stream, count)
            each = (_losses(probes, model, batch, updated) for batch in lots)
            if count:
                losses = descend(probes.train(), each, count, lr, (0.9, 0.999), weight_decay, 1e-6)
    return losses


def _losses(probes: UpdateProbes, model: Decoder, batch: Asked, updated: bool) -> Float[Tensor, " Y"]:
    logits = probes(model, batch.tokens, batch.positions, updated)
    return cross_entropy(logits[None], batch.labels)[0]


@torch.inference_mode()
def answered(probes: UpdateProbes, model: Decoder, batches: Iterable[Asked]) -> Int[np.ndarray, "Y N K"]:
    """The likeliest class at every position of all rows."""
    probes.eval()
    with frozen(model):
        found = [probes(model, batch.tokens, batch.positions).argmax(-1).cpu() for batch in batches]
    return torch.cat(found, 1).numpy()
