"""Sampling at temperature 1 (Physics of Language Models, Part 1, section 4), against generate of transformers.

Both have the same weights, begin with <bos>, keep a cache, and go on to the last token, as neither stops at <eos>.
"""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.peers import SIZES, TASK, counterpart, model_of, threads
from benchmarks.timing import ROUNDS, Row, compared, interleaved, timed
from lm.inference.sampling import generate
from lm.model import Decoder

BARS = {"0.1M": 4.0, "0.8M": 3.0}


def ours(model: Decoder, sequences: int, length: int) -> int:
    """Draw and count new tokens with lm.inference.sampling."""
    bos = TASK.vocab().bos
    drawn = generate(model, [[bos]] * sequences, length, eos=None, progress=lambda *_: None)
    return sum(map(len, drawn))


def theirs(peer: Any, sequences: int, length: int) -> int:
    """The same with transformers: plain multinomial sampling, no truncation of the distribution."""
    vocab = TASK.vocab()
    prompts = torch.full((sequences, 1), vocab.bos)
    with torch.inference_mode():
        drawn = peer.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=length, do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, eos_token_id=None, pad_token_id=vocab.pad, use_cache=True,
        )  # fmt: skip
    return drawn[:, 1:].numel()


def run(quick: bool) -> Iterator[Row]:
    """New tokens/s of GPT-2 at two sizes, one batch of all sequences."""
    sequences, length, rounds = (4, 8, 2) if quick else (256, 128, ROUNDS)
    count = 1 if quick else 2
    with threads(count):
        for size, (layers, width) in SIZES.items():
            model = model_of("gpt2", layers, width, context=512)
            peer = counterpart(model).eval()
            sides = timed(_side(ours, model, sequences, length)), timed(_side(theirs, peer, sequences, length))
            mine, other = interleaved(*sides, rounds=rounds)
            case = f"gpt2 {size}, {sequences} sequences of {length}"
            yield compared(case, "tokens/s", mine, "transformers generate", other, threads=count, bar=BARS[size])


def _side(draw: Any, model: Any, sequences: int, length: int) -> Any:
    return lambda: draw(model, sequences, length)
