"""What probability a model gives to documents: teacher-forced log-probabilities over ragged batches."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import nn

from lm.inference.batching import padded, ragged_batches
from lm.model import require_causal

TOKENS_A_BATCH = 16_384  # keeps the logits of a batch in cache on a CPU and the GPU busy


def _logits(model: nn.Module, documents: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, torch.Tensor]]:
    """Batches: numbers of documents (B,), their tokens padded on the right (B, T+1), logits (B, T, V) of the next token
    on the model's device. The model is put into eval mode; a causal model cannot see padding on the right."""
    require_causal(model, "the likelihood of a document")
    model.eval()
    device = next(model.parameters()).device
    lengths = np.array([len(document) for document in documents])
    for rows in ragged_batches(lengths, TOKENS_A_BATCH):
        tokens = padded(documents, rows)
        yield rows, tokens, model(torch.from_numpy(tokens[:, :-1]).to(device)).float()


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


def target_log_probabilities(model: nn.Module, documents: Sequence[np.ndarray]) -> list[Float[np.ndarray, " targets"]]:
    """Natural log-probability (T-1,) of each token of a document after the first, given those before it."""

    def said(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)

    return _of_targets(model, documents, said)


def token_nats(model: nn.Module, documents: Sequence[np.ndarray]) -> Float[np.ndarray, " tokens"]:
    """The loss of every token of the documents end to end, 0 of each one's first, which nothing predicts."""
    said = target_log_probabilities(model, documents)
    return np.concatenate([part for one in said for part in (np.zeros(1), -one.astype(np.float64))])


def judged_targets(
    model: nn.Module, documents: Sequence[np.ndarray]
) -> list[tuple[Bool[np.ndarray, " targets"], Float[np.ndarray, " targets"]]]:
    """Of each token (T-1,) of a document after the first, given those before it: whether it is the likeliest, and its
    natural log-probability. Where all of a completion are the likeliest, greedy decoding writes it."""

    def said(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        spoken = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        return torch.stack([logits.argmax(-1) == targets, spoken], -1)

    return [(found[:, 0] > 0, found[:, 1]) for found in _of_targets(model, documents, said)]


@torch.inference_mode()
def _of_targets(
    model: nn.Module, documents: Sequence[np.ndarray], judge: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> list[np.ndarray]:
    """For each document what judge(logits (B, T, V), targets (B, T)) says (T-1, ...) of its tokens after the first."""
    found = [np.zeros(0)] * len(documents)
    for rows, tokens, logits in _logits(model, documents):
        judged = judge(logits, torch.from_numpy(tokens[:, 1:]).to(logits.device)).cpu().numpy()
        for r, i in enumerate(rows):
            found[i] = judged[r, : len(documents[i]) - 1]
    return found
