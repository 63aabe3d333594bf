"""How long queries and keys have become (claim 4.8): normalising them is meant to stop their growth.

The papers' released models take an RMS norm over all heads' queries, and one over the keys, before they are rotated
(Part 4.2); Part 4.1 (arXiv 2512.17351) names no such norm. Lengths are read where they enter the scores.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lm.layers.positions import Places
from lm.mixers.attention import SoftmaxAttention
from lm.model import Decoder, build
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Task


@dataclass(frozen=True)
class Norms:
    """Mean length of the queries and keys of a head, over heads, layers and tokens of test documents, and the largest
    score before the softmax; beside the same of the model as it began."""

    documents: int = 64

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise UserError(f"documents={self.documents} leaves nothing to read; give at least 1")

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        """query, key (lengths), score (largest |q k| / sqrt(d)), each also as it began (query_start, ...), and growth,
        the mean of query and key over what they began with. Raises UserError for a model without softmax attention."""
        device = model.embed.weight.device
        fresh = build(model.config, model.vocab_size, seed).to(device)
        block = Corpus(task, data_seed, "test").documents(0, self.documents)
        rows = [torch.as_tensor(d[: model.config.context]).long().to(device) for d in block.documents]
        now, start = (lengths(each, rows) for each in (model, fresh))
        growth = (now["query"] / start["query"] + now["key"] / start["key"]) / 2
        return {**now, **{f"{name}_start": value for name, value in start.items()}, "growth": growth}


@torch.no_grad()
def lengths(model: Decoder, documents: list[Tensor]) -> dict[str, float]:
    """query, key: mean lengths; score: the largest score in size. Each document (T,) is read alone."""
    mixers = [block.mixer for block in model.blocks]
    if not all(isinstance(mixer, SoftmaxAttention) for mixer in mixers):
        raise UserError("norms of queries and keys need softmax attention; give mixer=attention, positions=rotary")
    model.eval()
    found: list[tuple[float, float, float]] = []
    hooks = [mixer.register_forward_pre_hook(lambda each, args: found.append(_read(each, *args[:2])))
             for mixer in mixers]  # fmt: skip
    try:
        for document in documents:
            model(document[None])
    finally:
        for hook in hooks:
            hook.remove()
    query, key, score = np.array(found).T
    return {"query": float(query.mean()), "key": float(key.mean()), "score": float(score.max())}


def _read(mixer: SoftmaxAttention, x: Float[Tensor, "1 T D"], places: Places) -> tuple[float, float, float]:
    q, k, _ = mixer.split(mixer.fused(x, places), places)
    scores = (q @ k.mT).tril() * mixer.head_width**-0.5
    return float(q.norm(dim=-1).mean()), float(k.norm(dim=-1).mean()), float(scores.abs().max())
