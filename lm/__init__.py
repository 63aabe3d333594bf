"""Small GPT-2 and LLaMA style models: build, train, generate, save, and move to and from transformers.

Names are loaded on first use, so that importing this package does not import torch. The functions `train` and
`generate` bear the names of their modules: `from lm.train import train`, `from lm.generate import generate`.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "ModelConfig": "lm.config",
    "TrainConfig": "lm.config",
    "Decoder": "lm.model",
    "build": "lm.model",
    "count_parameters": "lm.parameters",
    "flops_per_token": "lm.parameters",
    "History": "lm.state",
    "train_many": "lm.many",
    "save": "lm.checkpoint",
    "load": "lm.checkpoint",
    "to_transformers": "lm.convert",
    "from_transformers": "lm.convert",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
