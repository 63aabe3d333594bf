"""The models of both sides: ours, and the same in transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from lm import to_transformers
from lm.config import ModelConfig
from lm.model import Decoder, build
from lm.model_size import count_parameters
from synth.tasks.cfg import Cfg

TASK = Cfg("cfg3b")
SIZES = {"0.1M": (2, 64), "0.8M": (4, 128)}  # layers, width; parameters of the blocks


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the intra-op threads of torch for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def model_of(flavour: str, layers: int, width: int, max_seq_len: int, heads: int = 4) -> Decoder:
    """Our model for the vocabulary of TASK; "gpt2 rotary" is GPT-2 with rotary positions, the papers' GPT_rot."""
    make = ModelConfig.llama if flavour == "llama" else ModelConfig.gpt2
    config = make(layers, heads, width, max_seq_len=max_seq_len)
    if flavour == "gpt2 rotary":
        config = replace(config, positions="rotary")
    return build(config, TASK.vocab().size, seed=0)


def to_peer(model: Decoder) -> Any:
    """The GPT2LMHeadModel or LlamaForCausalLM of transformers with the same weights, without dropout."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    peer = to_transformers(model)
    ours = count_parameters(model)["total"]
    assert sum(p.numel() for p in peer.parameters()) == ours, "the peer has another size"
    assert peer.config._attn_implementation == "sdpa", "the peer's fastest ordinary attention on a CPU is sdpa"
    return peer
