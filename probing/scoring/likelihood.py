"""Teacher-forced log-probabilities of documents under a model, in batches of like length."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import nn

from lm.inference.batching import pad_documents, ragged_batches
from lm.model import require_causal

TOKENS_A_BATCH = 16_384  # small enough for the logits to stay in a CPU's cache, large enough to occupy a GPU


def _logits(model: nn.Module, documents: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, torch.Tensor]]:
    """Yield batches: indices of documents (B,), their tokens padded on the right (B, T+1), which a causal model does
    not see, and next-token logits (B, T, V) on the model's device. Puts the model into eval mode."""
    require_causal(model, "the likelihood of a document")
    model.eval()
    device = next(model.parameters()).device
    lengths = np.array([len(document) for document in documents])
    for rows in ragged_batches(lengths, TOKENS_A_BATCH):
        tokens = pad_documents(documents, rows)
        yield rows, tokens, model(torch.from_numpy(tokens[:, :-1]).to(device)).float()


@torch.inference_mode()
def log_probabilities(
    model: nn.Module, documents: Sequence[np.ndarray]
) -> list[Float[np.ndarray, "predictions vocabulary"]]:
    """Natural log-probabilities of every next token: (T-1, V) for a document of T tokens; row t follows t+1 tokens."""
    return _map_targets(model, documents, lambda logits, _: logits.log_softmax(-1))


def target_log_probabilities(model: nn.Module, documents: Sequence[np.ndarray]) -> list[Float[np.ndarray, " targets"]]:
    """Natural log-probability (T-1,) of each token of a document after the first, given those before it."""

    def target_log_probs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)

    return _map_targets(model, documents, target_log_probs)


def token_nats(model: nn.Module, documents: Sequence[np.ndarray]) -> Float[np.ndarray, " tokens"]:
    """Loss of every token of the concatenated documents (nats), 0 for the first of each, which is not predicted."""
    log_probs = target_log_probabilities(model, documents)
    return np.concatenate([part for one in log_probs for part in (np.zeros(1), -one.astype(np.float64))])


def argmax_and_log_probabilities(
    model: nn.Module, documents: Sequence[np.ndarray]
) -> list[tuple[Bool[np.ndarray, " targets"], Float[np.ndarray, " targets"]]]:
    """For each token (T-1,) of a document after the first: whether it is the argmax given the tokens before it, and its
    natural log-probability. Greedy decoding generates a completion exactly if all of its tokens are the argmax."""

    def argmax_and_log_prob(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        return torch.stack([logits.argmax(-1) == targets, log_probs], -1)

    return [(found[:, 0] > 0, found[:, 1]) for found in _map_targets(model, documents, argmax_and_log_prob)]


@torch.inference_mode()
def _map_targets(
    model: nn.Module, documents: Sequence[np.ndarray], function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> list[np.ndarray]:
    """Rows (T-1, ...) of function(logits (B, T, V), targets (B, T)) for each document of T tokens."""
    results = [np.zeros((0, 0), np.float32)] * len(documents)
    for rows, tokens, logits in _logits(model, documents):
        values = function(logits, torch.from_numpy(tokens[:, 1:]).to(logits.device)).cpu().numpy()
        for r, i in enumerate(rows):
            results[i] = values[r, : len(documents[i]) - 1]
    return results
