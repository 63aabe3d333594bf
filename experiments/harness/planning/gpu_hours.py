"""What runs would cost on data-centre GPUs: hours, and how many GPUs hold a training.

No table of results comes from a GPU yet, so that hours rest on what others published: GPT-2 trained by llm.c
(github.com/karpathy/llm.c). On 8 H100 the model of 124M parameters read 10B tokens in 45 minutes (first record of
github.com/KellerJordan/modded-nanogpt) and that of 1558M took 2.8 s for 1,048,576 tokens (scripts/run_gpt2_1558M.sh);
on 8 A100 the first took 0.3 s for 524,288 (scripts/run_gpt2_124M.sh). Peaks and bandwidths: NVIDIA's data sheets.
"""

from dataclasses import dataclass

from lm.memory import MemoryProfile, bytes_per_device

GPT2_WIDTH, GPT2_FLOPS = 768, 8.54e8  # of the 124M model: width, and FLOPs to train on a token in windows of 1024
# On an H100: where training is half as efficient as at great width; by the two models above.
HALF_EFFICIENCY_WIDTH = 400
# Utilisation of the second estimate: about what nanoGPT's plain PyTorch reached (600k steps, 4 days, 8 A100).
ASSUMED_MFU = 0.3
USABLE_MEMORY = 0.9  # share of a GPU's memory that tensors can have: the rest is the driver's and what is between them


@dataclass(frozen=True)
class GPU:
    """A GPU's data sheet, and its published training throughput of GPT-2 124M.

    peak_flops: dense bf16 FLOPs a second; bandwidth: bytes a second.
    """

    name: str
    peak_flops: float
    memory_bytes: float
    bandwidth: float
    gpt2_tokens_per_second: float


GPUS = {
    "h100": GPU("H100 SXM", 989e12, 80e9, 3.35e12, 10e9 / (45 * 60 * 8)),
    "a100": GPU("A100 SXM 80GB", 312e12, 80e9, 2.04e12, 524_288 / 0.3 / 8),
}


def mfu(gpu: GPU, width: int) -> float:
    """Model FLOPs utilisation of training at a d_model of `width`: as published at 768, elsewhere in the ratio of
    width / (width + h).

    The time of matrix products grows as the square of the width, that of everything else, bound by memory, as the
    width; h is the width where both take as long, proportional to the GPU's FLOPs per byte of bandwidth.
    """
    h100 = GPUS["h100"]
    half = HALF_EFFICIENCY_WIDTH * (gpu.peak_flops / gpu.bandwidth) / (h100.peak_flops / h100.bandwidth)
    published = gpu.gpt2_tokens_per_second * GPT2_FLOPS / gpu.peak_flops
    return published * (GPT2_WIDTH + half) / GPT2_WIDTH * width / (width + half)


def gpu_hours(flops: float, gpu: GPU, utilisation: float) -> float:
    """GPU hours of so many FLOPs at this share of the peak; 0 for no FLOPs."""
    return flops / (gpu.peak_flops * utilisation) / 3600 if flops else 0.0


@dataclass(frozen=True)
class Placement:
    """How a training is spread over GPUs: their number, whether the model is sharded, and the bytes on each."""

    num_gpus: int
    sharded: bool
    bytes_per_gpu: float


def find_placement(profile: MemoryProfile, gpu: GPU) -> Placement | None:
    """The fewest GPUs that hold a training, whole models before shards; None if 64 are too few.

    Their number is a power of two that divides the rows of a micro-batch.
    """
    for num_gpus in (n for n in (1, 2, 4, 8, 16, 32, 64) if profile.batch_size % n == 0):
        for sharded in (False, True) if num_gpus > 1 else (False,):
            if (needed := bytes_per_device(profile, num_gpus, sharded)) <= USABLE_MEMORY * gpu.memory_bytes:
                return Placement(num_gpus, sharded, needed)
    return None
