"""Sampling by the kernels of generation.cpp: no Python between two tokens."""

from collections.abc import Sequence
from ctypes import POINTER, Structure, addressof, byref, c_float, c_int, c_void_p
from functools import cache
from typing import Any

import numpy as np
import torch

from lm.native.block import BlockStruct, make_struct, numbers_of, parameters_of
from lm.native.build import library
from lm.native.objective import TABLES, have_no_hooks, knows_decoder, table_pointers, tables_of
from lm.ops.cpu_dispatch import can_use_cpu_kernels

MEMORY = 1 << 20  # bytes of keys and values of the sequences that a thread has at a time; half of the cache of a core
MAX_SLOTS = 256


class _Generation(Structure):
    """The struct Generation of generation.cpp."""

    _fields_ = [
        *((name, c_int) for name in "layers vocab sequences capacity budget eos slots".split()),
        ("temperature", c_float),
        *((name, c_void_p) for name in (*TABLES, "blocks", "draws", "prompts", "tokens", "counts")),
    ]


@cache
def _generate_tokens() -> Any:
    kernels = library()
    assert kernels is not None
    kernels.generate_tokens.argtypes, kernels.generate_tokens.restype = [POINTER(_Generation)], None
    return kernels.generate_tokens


def can_generate(model: Any) -> bool:
    """Whether the kernels compute this decoder: known blocks in fp32 on a CPU, and nothing hooked."""
    return can_use_cpu_kernels(model.embed.weight) and knows_decoder(model) and have_no_hooks(model)


def slots_for(layers: int, width: int, capacity: int) -> int:
    """How many sequences a thread has at a time: as many as the cache holds, but enough for fast matrix products, whose
    share of the time grows with the width (measured at 64 and 128)."""
    least = 16 if width <= 64 else 128
    return int(np.clip(MEMORY // (8 * layers * capacity * width), least, MAX_SLOTS))


def generate_tokens(
    model: Any, prompts: Sequence[np.ndarray], draws: np.ndarray, temperature: float, eos: int | None, most: int
) -> list[np.ndarray]:
    """New tokens (n_i,) int32 of each prompt, `eos` included; `can_generate` must hold.

    draws (sequences, budget) float32: uniform numbers, one for each new token. temperature: 0 takes the most likely
    token. most: sequences whose keys and values are in memory at a time, over all threads.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    sequences, budget = draws.shape
    capacity = int(lengths.max()) + budget - 1
    tokens, counts = np.zeros((sequences, capacity + 1), np.int64), np.zeros(sequences, np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    context = model.make_context(capacity)
    angles = [None if each is None else each.contiguous() for each in context.angles or (None, None)]
    numbers, eps = numbers_of(model.blocks[0], 1, capacity, context, False), float(model.norm.eps)
    held = [tuple(None if p is None else p.detach().contiguous() for p in parameters_of(b)) for b in model.blocks]
    blocks = (BlockStruct * len(held))(*(make_struct(numbers, eps, each, angles, None) for each in held))
    draws = np.ascontiguousarray(draws, np.float32)
    each_thread = -(-min(sequences, most) // torch.get_num_threads())
    slots = min(slots_for(len(held), numbers["width"], capacity), each_thread)
    arrays = (each.ctypes.data for each in (draws, lengths, tokens, counts))
    stop = -1 if eos is None else eos
    settings = (len(held), model.vocab_size, sequences, capacity, budget, stop, slots, temperature)
    tables = table_pointers(tables_of(model))
    _generate_tokens()(byref(_Generation(*settings, *tables, addressof(blocks), *arrays)))
    cuts = zip(tokens, lengths, counts, strict=True)
    return [row[length : length + count].astype(np.int32) for row, length, count in cuts]
