"""What probability a model gives to documents: teacher-forced log-probabilities over ragged batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

TOKENS_A_BATCH = 16_384  # keeps the logits of a batch in cache on a CPU and the GPU busy


def ragged_batches(lengths: np.ndarray, tokens_a_batch: int = TOKENS_A_BATCH) -> Iterator[np.ndarray]:
    """Index arrays covering 0..n-1: documents of like length, at most `tokens_a_batch` tokens or one document each."""
    order = np.argsort(-lengths, kind="stable")  # the first of a batch is its longest
    start = 0
    while start < len(order):
        rows = max(1, tokens_a_batch // int(lengths[order[start]]))
        stop = min(start + rows, len(order))
        yield order[start:stop]
        start = stop


def _logits(model: nn.Module, documents: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, torch.Tensor]]:
    """Batches: numbers of documents (B,), their tokens padded on the right (B, T+1), logits (B, T, V) of the next token
    on the model's device. The model is put into eval mode; a causal model cannot see padding on the right."""
    model.eval()
    device = next(model.parameters()).device
    lengths = np.array([len(document) for document in documents])
    for rows in ragged_batches(lengths):
        padded = np.zeros((len(rows), lengths[rows].max()), np.int64)
        for r, i in enumerate(rows):
            padded[r, : lengths[i]] = documents[i]
        yield rows, padded, model(torch.from_numpy(padded[:, :-1]).to(device)).float()


@torch.inference_mode()
def log_probabilities(
    model: nn.Module, documents: Sequence[np.ndarray]
) -> list[Float[np.ndarray, "predictions vocabulary"]]:
    """Natural log-probabilities of every next token: for document i of T tokens an array (T-1, V), row t after t+1
    tokens."""
    found = [np.zeros((0, 0), np.float32)] * len(documents)
    for rows, _, logits in _logits(model, documents):
        values = logits.log_softmax(-1).cpu().numpy()
        for r, i in enumerate(rows):
            found[i] = values[r, : len(documents[i]) - 1]
    return found


@torch.inference_mode()
def target_log_probabilities(model: nn.Module, documents: Sequence[np.ndarray]) -> list[Float[np.ndarray, " targets"]]:
    """Natural log-probability (T-1,) of each token of a document after the first, given those before it."""
    found = [np.zeros(0, np.float32)] * len(documents)
    for rows, padded, logits in _logits(model, documents):
        targets = torch.from_numpy(padded[:, 1:]).to(logits.device).flatten()
        said = -F.cross_entropy(logits.flatten(0, 1), targets, reduction="none").view(len(rows), -1).cpu().numpy()
        for r, i in enumerate(rows):
            found[i] = said[r, : len(documents[i]) - 1]
    return found
