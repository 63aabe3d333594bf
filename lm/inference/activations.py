"""The inside of a model by name: what every layer computes for given documents, streamed in batches.

    embed              what the first block reads (B, T, D)
    block.i.attn       what the mixer of block i adds to the residual stream (B, T, D)
    block.i.mlp        what its MLP adds (B, T, D)
    block.i            the residual stream after block i (B, T, D)
    block.i.weights    its attention weights (B, H, T, T): how much of each key (last) goes to each query
    final              after the last norm, what the output embedding reads (B, T, D)

Blocks count from 0. The names are the same for our decoders and for the language models of transformers. What a
model does not have is not there: nothing but attention has weights, and `attn` and `mlp` are left out where they are
not what is added to the stream (where a norm follows them, say).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from lm.inference.batching import padded, ragged_batches
from lm.inference.hooks import Inside, evaluating, is_weights, look_inside, recording
from synth.errors import UserError

MOST = 1 << 25  # numbers that a batch may take, with what the forward pass itself needs: 128 MiB in fp32


@dataclass(frozen=True)
class Activations:
    """A batch: rows (B,), the numbers of its documents; lengths (B,), their lengths; tensors by name, padded on the
    right to the longest, on the model's device. What stands at padding means nothing.

    The tensors are of inference mode: to train on them, copy them into tensors of your own.
    """

    rows: np.ndarray
    lengths: np.ndarray
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def names(model: nn.Module) -> tuple[str, ...]:
    """The names of all that can be read from a model."""
    return tuple(look_inside(model).points)


def read(
    model: nn.Module, documents: Sequence[np.ndarray], wanted: str | Sequence[str], most: int = MOST
) -> Iterator[Activations]:
    """Batches that hold every document once, like lengths together, with the tensors asked for.

    documents: ids (T,) each; wanted: names or patterns, in which a * stands for anything between two dots, so that
    "block.*" is every block's residual stream and "block.*.weights" all attention; most: numbers a batch may take.
    The model is frozen, in eval mode while it runs and afterwards as it was. Raises UserError, before anything is read,
    for a name or pattern that matches nothing, a document that is empty or longer than the context, a foreign token.
    """
    inside = look_inside(model)
    chosen = matching([wanted] if isinstance(wanted, str) else wanted, tuple(inside.points))
    lengths = np.array([len(document) for document in documents], np.int64)
    _check(inside, documents, lengths)
    return _stream(model, inside, documents, lengths, chosen, most)


def matching(wanted: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Those of the names `there` that are wanted, in their order. Raises UserError that names what matches nothing."""
    for pattern in wanted:
        if not any(_matches(name, pattern) for name in there):
            raise UserError(f"no activation is called {pattern!r}; there are: {', '.join(there)}")
    return tuple(name for name in there if any(_matches(name, pattern) for pattern in wanted))


def _matches(name: str, pattern: str) -> bool:
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _check(inside: Inside, documents: Sequence[np.ndarray], lengths: np.ndarray) -> None:
    if not len(lengths):
        return
    if not lengths.min():
        raise UserError(f"document {lengths.argmin()} is empty; leave it out")
    inside.check_length(int(lengths.max()))
    for i, document in enumerate(documents):
        if document.min() < 0 or document.max() >= inside.vocab_size:
            raise UserError(
                f"document {i} has tokens from {document.min()} to {document.max()} and the model knows 0 to "
                f"{inside.vocab_size - 1}; encode it with the vocabulary that the model was trained on"
            )


def _stream(
    model: nn.Module,
    inside: Inside,
    documents: Sequence[np.ndarray],
    lengths: np.ndarray,
    chosen: tuple[str, ...],
    most: int,
) -> Iterator[Activations]:
    matrices = sum(map(is_weights, chosen))
    # an MLP's hidden layer, the logits and one layer's scores are there whatever is asked for
    line = inside.width * (8 + len(chosen) - matrices) + inside.vocab_size
    for rows in ragged_batches(lengths, most, lambda length: length * (line + length * inside.heads * (1 + matrices))):
        tokens = padded(documents, rows)
        yield Activations(rows, lengths[rows], _forward(model, inside, tokens, lengths[rows], chosen))


@torch.inference_mode()
def _forward(
    model: nn.Module, inside: Inside, tokens: np.ndarray, lengths: np.ndarray, chosen: tuple[str, ...]
) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    real = torch.from_numpy(np.arange(tokens.shape[1]) < lengths[:, None])
    with evaluating(model), recording({name: inside.points[name] for name in chosen}) as found:
        inside.run(torch.from_numpy(tokens).to(device), real.to(device), any(map(is_weights, chosen)))
    return {name: found[name] for name in chosen}
