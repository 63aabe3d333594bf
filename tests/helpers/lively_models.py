"""Models of every kind that the compiled kernels compute."""

from dataclasses import replace

import torch

from lm.config import ModelConfig
from lm.model import Decoder, build

BASE = ModelConfig(n_layers=2, n_heads=4, d_model=32, max_seq_len=64, positions="rotary")
LLAMA = {"norm": "rms", "mlp": "swiglu", "bias": False}
CONFIGS = {
    "rotary": BASE,
    "learned": replace(BASE, positions="learned"),
    "no positions, Canon": replace(BASE, positions="none", canon="ABCD", tie_embeddings=False),
    "LLaMA with Canon": replace(BASE, canon="ABCD", **LLAMA),
    "LLaMA with Canon A and C": replace(BASE, canon="AC", **LLAMA),
    "partly rotary": replace(BASE, rotary_fraction=0.5, rotary_heads=0.5, canon="B", canon_kernel=3),
    "Canon without residual": replace(BASE, canon="ABCD", canon_residual=False, canon_kernel=2),
    "frozen Canon": replace(BASE, canon="ABCD", canon_learnable=False),
    "odd heads": replace(BASE, d_model=36, n_heads=3, positions="none", mlp="relu2"),
    "wide heads": replace(BASE, d_model=80, n_heads=1, positions="learned", mlp="reglu2"),
    "heads of 64": replace(BASE, d_model=128, n_heads=2, mlp="geglu"),
    "one head of 8": replace(BASE, d_model=8, n_heads=1, mlp="silu"),
}
VOCAB = 37


def lively(config: ModelConfig) -> Decoder:
    """A model whose weights are far from their start, so that nothing is near 0 by chance."""
    model, rng = build(config, VOCAB, 0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return model
