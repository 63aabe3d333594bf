"""Sampling at temperature 1 (Physics of Language Models, Part 1, section 4), against generate of transformers.

Both have the same weights, start from <bos>, use a cache and do not stop at <eos>.
"""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.peers import SIZES, TASK, model_of, threads, to_peer
from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from lm.inference.sampling import generate
from lm.model import Decoder

BARS = {"0.1M": 4.0, "0.8M": 3.0}


def ours(model: Decoder, sequences: int, length: int) -> int:
    """Sample with lm.inference.sampling; return the number of new tokens."""
    bos = TASK.vocab().bos
    tokens = generate(model, [[bos]] * sequences, length, eos=None, progress=lambda *_: None)
    return sum(map(len, tokens))


def theirs(peer: Any, sequences: int, length: int) -> int:
    """Sample with transformers from the full distribution; return the number of new tokens."""
    vocab = TASK.vocab()
    prompts = torch.full((sequences, 1), vocab.bos)
    with torch.inference_mode():
        tokens = peer.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=length, do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=vocab.pad, use_cache=True,
        )  # fmt: skip
    return tokens[:, 1:].numel()


def run(quick: bool) -> Iterator[Row]:
    """New tokens/s of GPT-2 at two sizes, all sequences in one batch."""
    sequences, length, rounds = (4, 8, 2) if quick else (256, 128, ROUNDS)
    count = 1 if quick else 2
    with threads(count):
        for size, (layers, width) in SIZES.items():
            model = model_of("gpt2", layers, width, max_seq_len=512)
            peer = to_peer(model).eval()
            sides = rate_of(_side(ours, model, sequences, length)), rate_of(_side(theirs, peer, sequences, length))
            mine, other = measure_in_turns(*sides, rounds=rounds)
            case = f"gpt2 {size}, {sequences} sequences of {length}"
            yield compare(case, "tokens/s", mine, "transformers generate", other, threads=count, bar=BARS[size])


def _side(draw: Any, model: Any, sequences: int, length: int) -> Any:
    return lambda: draw(model, sequences, length)
