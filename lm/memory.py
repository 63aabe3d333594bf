"""How much memory a model and its training take, from shapes alone (no torch), and refusals of what cannot fit.

A training holds weights, gradients and Adam's two moments in fp32, the activations that the backward pass needs for one
micro-batch, and, while a model is evaluated, the key-value cache of a generation.
"""

import os
from dataclasses import dataclass

from lm.config import ModelConfig, TrainConfig
from lm.options import GATED
from synth.errors import UserError

GENERATION_BATCH_SIZE = 256  # sequences that are sampled together
# Numbers that autograd saves per token and layer, over d_model, beside the MLP's: counted on a CPU from the saved
# tensors of small uncompiled models under bf16 autocast, where an fp32 tensor counts as two, so that they are an upper
# bound for training in fp32. A mixer that is not listed is taken for attention.
SAVED_ACTIVATIONS = {"attention": 12, "linear": 33, "gla": 35, "mamba2": 51, "gdn": 62}
SAVED_PER_CANON, SAVED_BY_QK_NORM = 3, 8
SAVED_PER_MLP, SAVED_PER_GATED_MLP = 2, 5.5  # over its hidden width
SAVED_PER_LOGIT = 5  # the logits in bf16, their log-softmax and its gradient in fp32
SAVED_PER_SCORE = 3  # for each head and key where attention scores are held: relative positions have no fused kernel


@dataclass(frozen=True)
class MemoryProfile:
    """The numbers that determine the memory of a training.

    batch_size, seq_len: of one micro-batch over all devices; activation_bytes_per_token: saved for the backward pass;
    kv_cache_bytes: of a generation; autocast: whether matrices are multiplied in bf16, which takes a second copy of the
    weights.
    """

    parameters: int
    batch_size: int
    seq_len: int
    activation_bytes_per_token: float
    layers: int
    kv_cache_bytes: float
    autocast: bool = True

    @classmethod
    def from_model(
        cls,
        config: ModelConfig,
        vocab_size: int,
        parameters: int,
        batch_size: int = 1,
        seq_len: int = 0,
        autocast: bool = True,
    ) -> "MemoryProfile":
        """The profile of a model trained on such micro-batches; vocab_size: rows of its embedding table."""
        saved = SAVED_ACTIVATIONS.get(config.mixer, SAVED_ACTIVATIONS["attention"])
        saved += SAVED_PER_CANON * len(config.canon) + SAVED_BY_QK_NORM * config.qk_norm
        mlp = SAVED_PER_GATED_MLP if config.mlp in GATED else SAVED_PER_MLP
        hidden = mlp * config.mlp_hidden_dim * (config.top_k if config.n_experts else 1)
        scores = SAVED_PER_SCORE * config.n_heads * seq_len * (config.positions == "relative")
        numbers = config.n_layers * (saved * config.d_model + hidden + scores) + SAVED_PER_LOGIT * vocab_size
        kv_cache = 4.0 * 2 * config.n_layers * config.d_model * config.max_seq_len * GENERATION_BATCH_SIZE
        per_token = (2 if autocast else 4) * numbers
        return cls(parameters, batch_size, seq_len, per_token, config.n_layers, kv_cache, autocast)


def bytes_per_device(profile: MemoryProfile, num_devices: int = 1, sharded: bool = False) -> float:
    """Bytes on each of so many devices, which share the rows of a micro-batch.

    Weights, gradients and Adam's two moments in fp32 (16 bytes a parameter), whole or sharded; bf16 copies of the
    weights under autocast (2); a buffer of the gradients under data parallelism (4). Shards are gathered for two layers
    at a time, as the next one is fetched while one computes. To these comes the larger of the activations and the
    key-value cache.
    """
    if sharded:
        state = 16 * profile.parameters / num_devices + 2 * 6 * profile.parameters / max(profile.layers, 1)
    else:
        state = (16 + 2 * profile.autocast + 4 * (num_devices > 1)) * profile.parameters
    tokens = max(profile.batch_size / num_devices, 1) * profile.seq_len
    return state + max(tokens * profile.activation_bytes_per_token, profile.kv_cache_bytes)


def check_memory(config: ModelConfig, vocab_size: int) -> None:
    """Raise UserError for a model of which even the largest parts do not fit into this machine's memory.

    A lower bound that builds nothing: matrices and tables in fp32, and 20 kB of objects for each block or expert.
    """
    width, mlps = config.d_model, max(1, config.n_experts)
    block = (
        width * (width + 2 * mlps * config.mlp_hidden_dim + len(config.canon) * config.canon_kernel) + config.d_state
    )
    tables = width * (vocab_size + (config.max_seq_len if config.positions == "learned" else 0))
    needed = 4 * (config.n_layers * block + tables) + 20_000 * config.n_layers * mlps
    _check_fits("the model", needed, "give fewer n_layers or n_experts, or less d_model, max_seq_len or canon_kernel")


def check_batch(config: TrainConfig) -> None:
    """Raise UserError for a batch whose inputs and targets, which every rank reads whole, do not fit into memory."""
    needed = 2 * 8 * config.batch_size * config.seq_len
    batch = f"batch_size={config.batch_size} of seq_len={config.seq_len}"
    _check_fits(batch, needed, "lower batch_size or seq_len")


def _check_fits(what: str, needed: int, remedy: str) -> None:
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise UserError(f"{what} needs {max(1, needed >> 30):,} GiB and this machine has {available >> 30:,}; {remedy}")
