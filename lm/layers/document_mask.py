"""Which tokens of a packed row see each other: position ids and attention masks from document numbers."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lm.config import ModelConfig


def document_positions(documents: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of each token within its document, from document numbers; a document must be contiguous."""
    steps = torch.arange(documents.shape[1], device=documents.device)
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return steps - torch.where(first, steps, 0).cummax(1).values


def positions_and_mask(
    config: ModelConfig, length: int, documents: Int[Tensor, "B T"] | None, device: torch.device
) -> tuple[Int[Tensor, "*B T"], Bool[Tensor, "B 1 T T"] | None]:
    """Position of each token within its document, and True where it may see a key (None: all j <= i).

    documents: document number of each token; a document must be contiguous.
    """
    steps = torch.arange(length, device=device)
    if documents is None:
        return steps, None if config.causal else torch.ones(1, 1, length, length, dtype=torch.bool, device=device)
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return document_positions(documents), same & (steps[:, None] >= steps) if config.causal else same
