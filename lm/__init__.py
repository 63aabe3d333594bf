"""Small GPT-2 and LLaMA style models: build, train, generate, save, and move to and from transformers.

Names are loaded on first use, so that importing this package does not import torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "ModelConfig": "lm.config",
    "TrainConfig": "lm.config",
    "Decoder": "lm.model",
    "build": "lm.model",
    "train": "lm.training.loop",
    "generate": "lm.inference.sampling",
    "count_parameters": "lm.model_size",
    "flops_per_token": "lm.model_size",
    "History": "lm.training.history",
    "save": "lm.pretrained",
    "load": "lm.pretrained",
    "to_transformers": "lm.hf.convert_weights",
    "from_transformers": "lm.hf.convert_weights",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
