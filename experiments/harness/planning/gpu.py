"""What runs would cost on data-centre GPUs, from shapes: hours, and the memory and number of GPUs.

No table of results comes from a GPU yet, so that hours rest on what others published: GPT-2 trained by llm.c
(github.com/karpathy/llm.c). On 8 H100 the model of 124M parameters read 10B tokens in 45 minutes (first record of
github.com/KellerJordan/modded-nanogpt) and that of 1558M took 2.8 s for 1,048,576 tokens (scripts/run_gpt2_1558M.sh);
on 8 A100 the first took 0.3 s for 524,288 (scripts/run_gpt2_124M.sh). Peaks and bandwidths: NVIDIA's data sheets.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm.config import GATED

if TYPE_CHECKING:
    from lm import ModelConfig

GPT2_WIDTH, GPT2_FLOPS = 768, 8.54e8  # of the 124M model: width, and FLOPs to train on a token in windows of 1024
HALF_WIDTH = 400  # on an H100: where training is half as efficient as at great width; by the two models above
STATED = 0.3  # utilisation of the second price: about what nanoGPT's plain PyTorch reached (600k steps, 4 days, 8 A100)
USABLE = 0.9  # share of a GPU's memory that tensors can have: the rest is the driver's and what is between them
FORWARD_ROWS = 256  # sequences that are sampled together

# Numbers of 2 bytes that autograd keeps for a token and layer under bf16 autocast, over the width, beside the MLP's:
# counted on a CPU from the saved tensors of small models, uncompiled. A file's own mixer is taken for attention.
KEPT = {"attention": 12, "linear": 33, "gla": 35, "mamba2": 51, "gdn": 62}
KEPT_BY_A_CANON, KEPT_BY_QK_NORM = 3, 8
KEPT_BY_AN_MLP, KEPT_BY_A_GATED_ONE = 2, 5.5  # over its hidden width
KEPT_OF_LOGITS = 5  # the logits, their log-softmax and its gradient in fp32
SCORE_BYTES = 6  # for each head and key where scores are held: relative positions have no fused kernel


@dataclass(frozen=True)
class GPU:
    """peak: bf16 FLOPs a second, dense; memory: bytes; bandwidth: bytes a second; gpt2: GPT-2's tokens a second."""

    name: str
    peak: float
    memory: float
    bandwidth: float
    gpt2: float


GPUS = {
    "h100": GPU("H100 SXM", 989e12, 80e9, 3.35e12, 10e9 / (45 * 60 * 8)),
    "a100": GPU("A100 SXM 80GB", 312e12, 80e9, 2.04e12, 524_288 / 0.3 / 8),
}


def utilisation(gpu: GPU, width: int) -> float:
    """Share of the peak that training reaches at this width: as published at 768, elsewhere in the ratio of
    width / (width + h).

    Matrix products take time as width squared and everything else, bound by memory, as the width; h is where both take
    as long, in proportion to the GPU's FLOPs per byte of bandwidth.
    """
    h100 = GPUS["h100"]
    half = HALF_WIDTH * (gpu.peak / gpu.bandwidth) / (h100.peak / h100.bandwidth)
    published = gpu.gpt2 * GPT2_FLOPS / gpu.peak
    return published * (GPT2_WIDTH + half) / GPT2_WIDTH * width / (width + half)


def gpu_hours(flops: float, gpu: GPU, share: float) -> float:
    """Hours of one GPU, or of several together, at this share of its peak; 0 for no FLOPs."""
    return flops / (gpu.peak * share) / 3600 if flops else 0.0


@dataclass(frozen=True)
class Load:
    """What decides the memory of a training: parameters; rows of a micro-batch over all GPUs, and tokens in each; bytes
    that the backward pass needs for each token; layers; bytes of the cache of a generation."""

    parameters: int
    rows: int
    window: int
    per_token: float
    layers: int
    cache: float

    @classmethod
    def of(cls, model: "ModelConfig", vocab_size: int, parameters: int, rows: int, window: int) -> "Load":
        """The load of a model, by the counts above."""
        wide = KEPT.get(model.mixer, KEPT["attention"])
        wide += KEPT_BY_A_CANON * len(model.canon) + KEPT_BY_QK_NORM * model.qk_norm
        mlp = KEPT_BY_A_GATED_ONE if model.mlp in GATED else KEPT_BY_AN_MLP
        hidden = mlp * model.hidden_width * (model.top_k if model.experts else 1)
        scores = SCORE_BYTES * model.heads * window * (model.positions == "relative")
        per_token = model.layers * (2 * (wide * model.width + hidden) + scores) + 2 * KEPT_OF_LOGITS * vocab_size
        cache = 4.0 * 2 * model.layers * model.width * model.context * FORWARD_ROWS
        return cls(parameters, rows, window, per_token, model.layers, cache)


def memory(load: Load, gpus: int = 1, sharded: bool = False) -> float:
    """Bytes on each of so many GPUs, which share the rows of a micro-batch.

    Weights, gradients and Adam's two moments in fp32 (16 bytes a parameter), whole or in shards; bf16 copies of the
    weights (2); data parallel adds a buffer of the gradients (4). Shards come together for two layers at a time, as the
    next one is fetched while one is at work. With them the larger of what a micro-batch keeps and a generation caches.
    """
    if sharded:
        state = 16 * load.parameters / gpus + 2 * 6 * load.parameters / max(load.layers, 1)
    else:
        state = (18 + 4 * (gpus > 1)) * load.parameters
    return state + max(max(load.rows / gpus, 1) * load.window * load.per_token, load.cache)


@dataclass(frozen=True)
class Placed:
    """On how many GPUs a training fits, how its model is held there, and the bytes on each."""

    gpus: int
    sharded: bool
    bytes: float


def place(load: Load, gpu: GPU) -> Placed | None:
    """The fewest GPUs (a power of two that divides the rows), whole models before shards; None where no number does."""
    for gpus in (n for n in (1, 2, 4, 8, 16, 32, 64) if load.rows % n == 0):
        for sharded in (False, True) if gpus > 1 else (False,):
            if (need := memory(load, gpus, sharded)) <= USABLE * gpu.memory:
                return Placed(gpus, sharded, need)
    return None
