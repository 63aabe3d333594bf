"""Tokens whose embeddings a training leaves as they are."""

from collections.abc import Sequence

import torch

from lm.model import Decoder

TABLE, ADAPTER = "embed.weight", "embed.lora_embedding_A."  # the second in a model with adapters, (rank, vocabulary)


class FrozenTokens:
    """The entries of a model's token embedding, or of its adapter, that belong to some tokens.

    Finetuning on questions about some people must not write the answers into names that these people alone have: it
    would learn nothing about other people (Part 3.1, arXiv 2309.14316, where a hundred people share a name).
    """

    def __init__(self, model: Decoder, tokens: Sequence[int]) -> None:
        self.tokens = torch.as_tensor(list(tokens), dtype=torch.long, device=next(model.parameters()).device)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.parts = [(p, 0) for name, p in named if name == TABLE]
        self.parts += [(p, 1) for name, p in named if name.startswith(ADAPTER)]
        self.values = [p.detach().index_select(dim, self.tokens) for p, dim in self.parts]

    def clear_gradients(self) -> None:
        """Set the gradients of the entries to 0."""
        for parameter, dim in self.parts:
            if parameter.grad is not None:
                parameter.grad.index_fill_(dim, self.tokens, 0.0)

    @torch.no_grad()
    def restore(self) -> None:
        """Give the entries the values that they had: weight decay changes them without a gradient."""
        for (parameter, dim), values in zip(self.parts, self.values, strict=True):
            parameter.index_copy_(dim, self.tokens, values)
