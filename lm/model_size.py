"""Parameter counts and the cost of a trained token. FLOPs as in PaLM (arXiv 2204.02311, appendix B)."""

from dataclasses import dataclass, replace
from functools import lru_cache

from torch import nn

from lm.config import ModelConfig
from lm.layers.moe import MixtureOfExperts
from lm.layers.positions import is_distance_projection
from lm.model import Decoder, meta_model, mixer_of
from synth.task import TrainingData


def count_parameters(model: Decoder) -> dict[str, int]:
    """Parameters: total = embedding + non_embedding, and active, those used by one token.

    embedding: the token table, the positions table and the untied output table; non_embedding: everything else.
    A tied table counts once; Canon kernels that are not trained do not count. Capacity (bits per parameter) is relative
    to `total`. active: total without the experts to which a token is not routed.
    """
    total, embedding = _numel(model), sum(map(_numel, model.tables()))
    non_embedding = _numel(model.blocks) + _numel(model.norm)
    assert total == embedding + non_embedding, "a parameter is in no group or in two"
    experts = sum(p.numel() for p in _expert_parameters(model))
    unused, rest = divmod(experts * (model.config.n_experts - model.config.top_k), max(model.config.n_experts, 1))
    assert not rest and (experts > 0) == (model.config.n_experts > 0), "experts are not of one size"
    return {"total": total, "embedding": embedding, "non_embedding": non_embedding, "active": total - unused}


def flops_per_token(config: ModelConfig, vocab_size: int, window: int) -> float:
    """FLOPs to train on one token of a sequence of `window` tokens: 6 per multiplied parameter, plus token mixing.

    Multiplied parameters are all matrices of the blocks, convolution kernels and the output embedding (also when tied);
    not lookup tables, norms, biases, or projections of distance tables (computed once per batch). Softmax attention
    costs 12 L D T (PaLM's convention, not halved for causality); recurrent mixers cost the same at every window. Only
    experts to which a token is routed count.
    """
    mixing = 3 * config.n_layers * mixer_of(config).mixing_flops(config, window)
    return float(6 * size_of(config, vocab_size).multiplied + mixing)


def num_parameters(config: ModelConfig, data: TrainingData) -> int:
    """Total number of parameters of a model with the vocabulary of a task or mixture."""
    return size_of(config, config.model_vocab_size(data.vocab())).total


@dataclass(frozen=True)
class Size:
    """total: number of parameters; multiplied: matrix parameters applied to each token (see `flops_per_token`)."""

    total: int
    multiplied: float


def size_of(config: ModelConfig, vocab_size: int) -> Size:
    """The size of a model, computed from one block and cached by configuration, file of a mixer included."""
    return _size_of(config, vocab_size, tuple(config.contents().values()))


@lru_cache(maxsize=4096)
def _size_of(config: ModelConfig, vocab_size: int, _contents: tuple[str, ...]) -> Size:
    model = meta_model(replace(config, n_layers=1), vocab_size)
    per_batch = {p for m in model.modules() if is_distance_projection(m) for p in m.parameters()}
    experts = set(_expert_parameters(model))
    used = config.top_k / max(config.n_experts, 1)
    per_token = [
        p.numel() * (used if p in experts else 1)
        for p in model.blocks.parameters()
        if p.ndim > 1 and p not in per_batch
    ]
    total = count_parameters(model)["total"] + (config.n_layers - 1) * _numel(model.blocks)
    return Size(total, config.n_layers * sum(per_token) + vocab_size * config.d_model)


def _numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _expert_parameters(model: Decoder) -> list[nn.Parameter]:
    if not model.config.n_experts:
        return []
    return [p for m in model.modules() if isinstance(m, MixtureOfExperts) for p in m.experts.parameters()]
