"""Sampling at temperature 1 (Physics of Language Models, Part 1, section 4), against generate of transformers.

Both have the same weights and use a cache. Sequences that start from <bos> and do not stop at <eos> measure long
samples; prompts of mixed lengths, completed until <eos>, measure what evaluations of answers do, where prompts outweigh
answers.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from benchmarks.peers import SIZES, TASK, model_of, threads, to_peer
from benchmarks.timing import ROUNDS, Row, compare, measure_in_turns, rate_of
from lm.inference.sampling import generate, no_progress
from lm.model import Decoder
from synth.corpus import Corpus

BARS = {"0.1M": 4.0, "0.8M": 3.0}
BATCH, LONGEST = 256, 64  # sequences; tokens of the longest of mixed prompts
PEER = "transformers generate"
Prompts = Sequence[Sequence[int]]


def ours(model: Decoder, prompts: Prompts, max_new_tokens: int, eos: int | None) -> int:
    """Sample with lm.inference.sampling; return the number of new tokens."""
    return sum(map(len, generate(model, prompts, max_new_tokens, eos=eos, batch=BATCH, progress=no_progress)))


@torch.inference_mode()
def theirs(peer: Any, prompts: Prompts, max_new_tokens: int, eos: int | None) -> int:
    """Sample with transformers from the full distribution, prompts of like lengths together, padded on the left; return
    the number of new tokens, padding after <eos> included."""
    pad, ordered, made = TASK.vocab().pad, sorted(prompts, key=len), 0
    for start in range(0, len(ordered), BATCH):
        group = ordered[start : start + BATCH]
        ids = torch.tensor([[pad] * (len(group[-1]) - len(prompt)) + list(prompt) for prompt in group])
        tokens = peer.generate(
            ids, attention_mask=(ids != pad).long(), max_new_tokens=max_new_tokens, do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, eos_token_id=eos, pad_token_id=pad, use_cache=True,
        )  # fmt: skip
        made += tokens[:, ids.shape[1] :].numel()
    return made


def mixed_prompts(count: int) -> Prompts:
    """Beginnings of documents, of 1 to LONGEST tokens."""
    block = Corpus(TASK, 0, "test").documents(0, count)
    return [block.tokens[start : start + 1 + i % LONGEST].tolist() for i, start in enumerate(block.offsets[:-1])]


def run(quick: bool) -> Iterator[Row]:
    """New tokens/s of GPT-2 at two sizes, all sequences in one batch; and prompts/s, in batches of BATCH."""
    sequences, length, rounds = (4, 8, 2) if quick else (BATCH, 128, ROUNDS)
    vocab, about = TASK.vocab(), {"threads": 1 if quick else 2}
    starts, prompts = [[vocab.bos]] * sequences, mixed_prompts(sequences)
    with threads(about["threads"]):
        for size, (layers, width) in SIZES.items():
            model = model_of("gpt2", layers, width, max_seq_len=512)
            sides = (ours, model), (theirs, to_peer(model).eval())
            work = [_rate(*side, sequences * length, starts, length, None) for side in sides]
            mine, other = measure_in_turns(*work, rounds=rounds)
            case = f"gpt2 {size}, {sequences} sequences of {length}"
            yield compare(case, "tokens/s", mine, PEER, other, bar=BARS[size], **about)
            work = [_rate(*side, len(prompts), prompts, length, vocab.eos) for side in sides]
            mine, other = measure_in_turns(*work, rounds=rounds)
            case = f"gpt2 {size}, prompts of 1 to {LONGEST} until <eos>"
            yield compare(case, "prompts/s", mine, PEER, other, **about)


def _rate(sample: Callable[..., None], model: Any, units: int, *settings: Any) -> Callable[[], float]:
    def work() -> float:
        sample(model, *settings)
        return units

    return rate_of(work)
