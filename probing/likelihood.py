"""What probability a model gives to documents: teacher-forced log-probabilities over ragged batches."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
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


@torch.inference_mode()
def log_probabilities(
    model: nn.Module, documents: Sequence[np.ndarray]
) -> list[Float[np.ndarray, "predictions vocabulary"]]:
    """Natural log-probabilities of every next token: for document i of T tokens an array (T-1, V), row t after t+1
    tokens. The model is put into eval mode; padding stands to the right, where a causal model cannot see it.
    """
    model.eval()
    device = next(model.parameters()).device
    lengths = np.array([len(document) for document in documents])
    found: list[np.ndarray | None] = [None] * len(documents)
    for rows in ragged_batches(lengths):
        padded = np.zeros((len(rows), lengths[rows].max() - 1), np.int64)
        for r, i in enumerate(rows):
            padded[r, : lengths[i] - 1] = documents[i][:-1]
        logits = model(torch.from_numpy(padded).to(device))
        values = logits.float().log_softmax(-1).cpu().numpy()
        for r, i in enumerate(rows):
            found[i] = values[r, : lengths[i] - 1]
    return [values for values in found if values is not None]


def target_log_probabilities(model: nn.Module, documents: Sequence[np.ndarray]) -> list[Float[np.ndarray, " targets"]]:
    """Natural log-probability (T-1,) of each token of a document after the first, given those before it."""
    rows = log_probabilities(model, documents)
    return [row[np.arange(len(row)), document[1:]] for row, document in zip(rows, documents, strict=True)]
