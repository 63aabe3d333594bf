"""Activations of a model by name, for given documents, streamed in batches.

    embed              input of the first block (B, T, D)
    block.i.attn       output of the mixer of block i, added to the residual stream (B, T, D)
    block.i.mlp        output of its MLP, added to the residual stream (B, T, D)
    block.i            residual stream after block i (B, T, D)
    block.i.weights    attention weights of block i (B, H, query T, key T)
    final              output of the last norm, input of the output embedding (B, T, D)

Blocks count from 0. The names are the same for a Decoder and for language models of transformers. Only attention has
weights; `attn` and `mlp` exist only where they are added to the stream unchanged (no norm follows them, for example).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from lm.inference.batching import pad_documents, ragged_batches
from lm.inference.hooks import HookPoints, eval_mode, find_hook_points, is_weights, record_outputs
from synth.errors import UserError

MAX_NUMBERS = 1 << 25  # numbers per batch, those of the forward pass included: 128 MiB in fp32


@dataclass(frozen=True)
class Activations:
    """Activations of one batch of documents.

    rows (B,): indices of the documents; lengths (B,): their lengths; tensors: activations by name, on the model's
    device, undefined at the padding on the right. They are inference tensors: clone them to train on them.
    """

    rows: np.ndarray
    lengths: np.ndarray
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def activation_names(model: nn.Module) -> tuple[str, ...]:
    """Names of all activations of a model."""
    return tuple(find_hook_points(model).points)


def iter_activations(
    model: nn.Module, documents: Sequence[np.ndarray], patterns: str | Sequence[str], max_numbers: int = MAX_NUMBERS
) -> Iterator[Activations]:
    """Batches covering every document once, sorted by length, with the activations that match.

    documents: token ids (T,) each. patterns: names in which * matches anything between two dots: "block.*" is every
    block's residual stream, "block.*.weights" all attention weights. max_numbers: limit of numbers per batch.
    The model runs in eval mode, without gradients. Raises UserError, before the model runs, for a pattern that matches
    nothing, a document that is empty or too long for the model, and a token outside the vocabulary.
    """
    hook_points = find_hook_points(model)
    names = match_activations([patterns] if isinstance(patterns, str) else patterns, tuple(hook_points.points))
    lengths = np.array([len(document) for document in documents], np.int64)
    _check(hook_points, documents, lengths)
    return _stream(model, hook_points, documents, lengths, names, max_numbers)


def match_activations(patterns: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The names that match any of the patterns, in their order. Raises UserError for a pattern that matches nothing."""
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            raise UserError(f"no activation is called {pattern!r}; there are: {', '.join(names)}")
    return tuple(name for name in names if any(_matches(name, pattern) for pattern in patterns))


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _check(hook_points: HookPoints, documents: Sequence[np.ndarray], lengths: np.ndarray) -> None:
    if not len(lengths):
        return
    if not lengths.min():
        raise UserError(f"document {lengths.argmin()} is empty; leave it out")
    hook_points.check_length(int(lengths.max()))
    for i, document in enumerate(documents):
        if document.min() < 0 or document.max() >= hook_points.vocab_size:
            raise UserError(
                f"document {i} has tokens from {document.min()} to {document.max()} and the model knows 0 to "
                f"{hook_points.vocab_size - 1}; encode it with the vocabulary that the model was trained on"
            )


def _stream(
    model: nn.Module,
    hook_points: HookPoints,
    documents: Sequence[np.ndarray],
    lengths: np.ndarray,
    names: tuple[str, ...],
    max_numbers: int,
) -> Iterator[Activations]:
    # a forward pass itself holds an MLP's hidden layer, the logits and one layer's scores
    matrices = sum(map(is_weights, names))
    per_token = hook_points.d_model * (8 + len(names) - matrices) + hook_points.vocab_size
    per_pair = hook_points.n_heads * (1 + matrices)
    for rows in ragged_batches(lengths, max_numbers, lambda length: length * (per_token + length * per_pair)):
        tokens = pad_documents(documents, rows)
        yield Activations(rows, lengths[rows], _forward(model, hook_points, tokens, lengths[rows], names))


@torch.inference_mode()
def _forward(
    model: nn.Module, hook_points: HookPoints, tokens: np.ndarray, lengths: np.ndarray, names: tuple[str, ...]
) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    is_token = torch.from_numpy(np.arange(tokens.shape[1]) < lengths[:, None])
    with eval_mode(model), record_outputs({name: hook_points.points[name] for name in names}) as outputs:
        hook_points.run(torch.from_numpy(tokens).to(device), is_token.to(device), any(map(is_weights, names)))
    return {name: outputs[name] for name in names}
