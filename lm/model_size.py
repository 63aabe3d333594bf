"""How large a model is and what a trained token costs. FLOPs as in PaLM (arXiv 2204.02311, appendix B)."""

from dataclasses import dataclass, replace
from functools import lru_cache

from lm.config import ModelConfig
from lm.model import Decoder, mixer_of, outline


def count_parameters(model: Decoder) -> dict[str, int]:
    """Parameters: total = embedding + non_embedding, and active: those that one token meets.

    embedding: the token table, the positions table and the untied output table; non_embedding: everything else.
    A tied table counts once, and Canon taps that are not trained do not count. Capacity (bits per parameter) is stated
    against `total`. active is total without the experts that a token is not sent to, so it is smaller only in a mixture
    of experts.
    """
    embedding = sum(p.numel() for name, p in model.named_parameters() if _is_table(name))
    total = sum(p.numel() for p in model.parameters())
    non_embedding = sum(p.numel() for p in model.blocks.parameters()) + sum(p.numel() for p in model.norm.parameters())
    assert total == embedding + non_embedding, "a parameter is in no group or in two"
    experts = sum(p.numel() for name, p in model.named_parameters() if _is_expert(name))
    asleep, rest = divmod(experts * (model.config.experts - model.config.top_k), max(model.config.experts, 1))
    assert not rest and (experts > 0) == (model.config.experts > 0), "experts are not of one size"
    return {"total": total, "embedding": embedding, "non_embedding": non_embedding, "active": total - asleep}


def flops_per_token(config: ModelConfig, vocab_size: int, window: int) -> float:
    """FLOPs to train on one token: 6 for each parameter that is multiplied, plus attention.

    Multiplied are all matrices of the blocks, the taps of convolutions and the output embedding (also when tied), not
    looked-up tables, norms or biases, nor the projections of distance tables (once a batch). Attention follows PaLM's
    convention, 12 L D T for softmax attention, which does not halve for causality; recurrent mixers cost the same at
    every window. Of experts, those count that a token is sent to.
    """
    mixing = 3 * config.layers * mixer_of(config).mixing_flops(config, window)
    return float(6 * size_of(config, vocab_size).multiplied + mixing)


@dataclass(frozen=True)
class Size:
    """total: all parameters; multiplied: those that a token is multiplied by, as `flops_per_token` counts them."""

    total: int
    multiplied: float


def size_of(config: ModelConfig, vocab_size: int) -> Size:
    """The size of a model of these shapes as it begins, found from one block, as all are alike, and kept: planning asks
    for the same shapes many times."""
    return _size_of(config, vocab_size, tuple(config.contents().values()))


@lru_cache(maxsize=4096)
def _size_of(config: ModelConfig, vocab_size: int, _contents: tuple[str, ...]) -> Size:
    model = outline(replace(config, layers=1), vocab_size)
    used = config.top_k / max(config.experts, 1)
    per_token = [
        p.numel() * (used if _is_expert(name) else 1)
        for name, p in model.blocks.named_parameters()
        if p.ndim > 1 and ".distance" not in name
    ]
    block = sum(p.numel() for p in model.blocks.parameters())
    total = count_parameters(model)["total"] + (config.layers - 1) * block
    return Size(total, config.layers * sum(per_token) + vocab_size * config.width)


def _is_table(name: str) -> bool:
    return name.startswith(("embed.", "positions.", "head."))


def _is_expert(name: str) -> bool:
    return ".experts." in name
