"""Growth of the norms of queries and keys in training (claim 4.8), which QK norm is meant to prevent.

The papers' released models have an RMS norm over all heads' queries, and one over the keys, before the rotation (Part
4.2); Part 4.1 (arXiv 2512.17351) mentions none. Norms are measured where queries and keys enter the scores.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lm.layers.context import SequenceContext
from lm.mixers.attention import SoftmaxAttention
from lm.model import Decoder, build
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import Task


@dataclass(frozen=True)
class QKNorms:
    """Mean norm of queries and keys over heads, layers and tokens of test documents, and the largest attention score
    before the softmax; also of the model at initialization."""

    identity_name = "Norms"

    documents: int = 64

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise UserError(f"documents={self.documents} measures nothing; give at least 1")

    def measure(self, model: Decoder, task: Task, data_seed: int, seed: int) -> dict[str, Any]:
        """query, key (mean norms), score (largest |q k| / sqrt(d)), each also at initialization (query_start, ...), and
        growth, the mean ratio of query and key to them. Raises UserError for a model without softmax attention."""
        device = model.embed.weight.device
        fresh = build(model.config, model.vocab_size, seed).to(device)
        block = Corpus(task, data_seed, "test").documents(0, self.documents)
        rows = [torch.as_tensor(d[: model.config.max_seq_len]).long().to(device) for d in block.documents]
        now, start = (qk_statistics(each, rows) for each in (model, fresh))
        growth = (now["query"] / start["query"] + now["key"] / start["key"]) / 2
        return {**now, **{f"{name}_start": value for name, value in start.items()}, "growth": growth}


@torch.no_grad()
def qk_statistics(model: Decoder, documents: list[Tensor]) -> dict[str, float]:
    """query, key: mean norms; score: largest absolute score. Each document (T,) is a batch of its own."""
    mixers = [block.mixer for block in model.blocks]
    if not all(isinstance(mixer, SoftmaxAttention) for mixer in mixers):
        raise UserError("norms of queries and keys need softmax attention; give mixer=attention, positions=rotary")
    model.eval()
    rows: list[tuple[float, float, float]] = []
    hooks = [mixer.register_forward_pre_hook(lambda each, args: rows.append(_layer_qk_statistics(each, *args[:2])))
             for mixer in mixers]  # fmt: skip
    try:
        for document in documents:
            model(document[None])
    finally:
        for hook in hooks:
            hook.remove()
    query, key, score = np.array(rows).T
    return {"query": float(query.mean()), "key": float(key.mean()), "score": float(score.max())}


def _layer_qk_statistics(
    mixer: SoftmaxAttention, x: Float[Tensor, "1 T D"], context: SequenceContext
) -> tuple[float, float, float]:
    q, k, _ = mixer.split(mixer.project_heads(x, context), context)
    scores = (q @ k.mT).tril() * mixer.head_width**-0.5
    return float(q.norm(dim=-1).mean()), float(k.norm(dim=-1).mean()), float(scores.abs().max())
