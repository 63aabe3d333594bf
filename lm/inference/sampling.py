"""Batched sampling with the mixers' caches: one token of every sequence per step.

Protocol of Part 1 (arXiv 2305.13673, section 4): multinomial sampling at temperature 1, no beam search.
"""

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lm.model import Decoder
from lm.native.generation import can_generate, generate_tokens
from synth.errors import UserError

Prompts = Sequence[Sequence[int] | np.ndarray] | np.ndarray


def generate(
    model: Decoder,
    prompts: Prompts,
    max_new_tokens: int,
    temperature: float = 1.0,
    eos: int | None = None,
    seed: int = 0,
    first: int = 0,
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> list[np.ndarray]:
    """Continue every prompt; returns the new tokens (n_i,) int32 of each, `eos` included, prompt excluded.

    prompts: token ids (B, c), or a list of sequences of any lengths >= 1. A sequence ends with `eos` or after
    max_new_tokens. temperature: 0 takes the most likely token. Sequence i has its own random stream, keyed by (seed,
    first + i), so prompts split over several calls, each with its `first`, give the same samples up to rounding of
    logits. batch: the most sequences at a time; progress(done, total) is called after one or a few batches; None: a bar
    on a terminal.

    Raises UserError for an empty prompt, an id outside the vocabulary, and sequences too long for the model.
    """
    ids = _checked(model, prompts, max_new_tokens, temperature)
    report = progress or _bar(len(ids))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # a batch prefills its shortest length
    done: list[np.ndarray] = [np.zeros(0, np.int32)] * len(ids)
    was_training = model.training
    compiled = can_generate(model)
    together = batch * 4 if compiled else batch  # the kernels start a sequence when another ends
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), together):
            group = np.array(order[start : start + together])
            texts, draws = [ids[i] for i in group], _draws(seed, group + first, max_new_tokens)
            if compiled:
                drawn = generate_tokens(model, texts, draws, temperature, eos, batch)
            else:
                drawn = _Sampler(model, texts, draws, temperature, eos).run()
            for i, tokens in zip(group, drawn, strict=True):
                done[i] = tokens
            report(start + len(group), len(ids))
    model.train(was_training)
    return done


def no_progress(done: int, total: int) -> None:
    """Progress callback that shows nothing."""


def _checked(model: Decoder, prompts: Prompts, max_new_tokens: int, temperature: float) -> list[np.ndarray]:
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens={max_new_tokens} asks for nothing; give at least 1")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UserError(f"temperature={temperature} samples nothing; give 0 for the most likely token, 1 to sample")
    ids = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    for number, prompt in enumerate(ids):
        if prompt.ndim != 1 or len(prompt) == 0:
            raise UserError(f"prompt {number} has no tokens; begin every prompt with <bos>")
        if prompt.min() < 0 or prompt.max() >= model.vocab_size:
            raise UserError(f"prompt {number} has an id outside 0..{model.vocab_size - 1}; use the model's vocabulary")
    if ids:
        model.check_length(max(map(len, ids)) + max_new_tokens - 1)
    return ids


def _draws(seed: int, numbers: np.ndarray, budget: int) -> np.ndarray:
    """Uniform numbers (sequences, budget) float32, of a random stream for each sequence."""
    return np.stack(
        [np.random.Generator(np.random.Philox(key=[seed, n])).random(budget) for n in numbers],
        dtype=np.float32,
        casting="same_kind",
    )


def _bar(total: int) -> Callable[[int, int], None]:
    if not sys.stderr.isatty():
        return lambda done, total: None
    from tqdm import tqdm

    bar = tqdm(total=total, unit="sequence", desc="generate")

    def report(done: int, total: int) -> None:
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return report


class _Sampler:
    """One batch of sequences, all at the same position t; a row still in its prompt takes the prompt's token."""

    def __init__(
        self, model: Decoder, prompts: list[np.ndarray], draws: np.ndarray, temperature: float, eos: int | None
    ) -> None:
        device = model.embed.weight.device
        self.model, self.temperature, self.eos = model, temperature, eos
        self.lengths = np.array([len(p) for p in prompts])
        self.budget = draws.shape[1]
        self.last = int(self.lengths.max()) + self.budget - 1
        tokens = np.zeros((len(prompts), self.last + 1), np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = prompt
        self.tokens = torch.from_numpy(tokens).to(device)
        self.prompt = torch.from_numpy(self.lengths).to(device)
        self.rows = torch.arange(len(prompts), device=device)  # row of `tokens` of every unfinished sequence
        self.draws = torch.from_numpy(draws).to(device)

    def run(self) -> list[np.ndarray]:
        common = int(self.lengths.min())
        caches = self.model.empty_caches(len(self.rows), self.last)
        logits = self.model(self.tokens[:, :common], caches=caches)[:, -1]
        for t in range(common, self.last + 1):
            alive = self._take(logits, t)
            if t == self.last or not len(self.rows):
                break
            if alive is not None:
                for cache in caches:
                    cache.select_rows(alive)
            logits = self.model.step(self.tokens[self.rows, t], caches, t)
        return self._cut()

    def _take(self, logits: Tensor, t: int) -> Tensor | None:
        """Write token t of every unfinished row; returns the rows to keep, None for all."""
        new = self._sample(logits, t)
        in_prompt = self.prompt[self.rows] > t
        self.tokens[self.rows, t] = torch.where(in_prompt, self.tokens[self.rows, t], new)
        ended = t + 1 - self.prompt[self.rows] >= self.budget
        if self.eos is not None:
            ended |= (new == self.eos) & ~in_prompt
        if not bool(ended.any()):
            return None
        alive = (~ended).nonzero()[:, 0]
        self.rows = self.rows[alive]
        return alive

    def _sample(self, logits: Tensor, t: int) -> Tensor:
        if self.temperature == 0:
            return logits.argmax(-1)
        draw = self.draws[self.rows, (t - self.prompt[self.rows]).clamp_min(0)]
        total = (logits.float() / self.temperature).softmax(-1).cumsum(-1)
        # relative to the rounded total, so that an id of probability 0 is never drawn
        return (total < draw[:, None] * total[:, -1:]).sum(-1)

    def _cut(self) -> list[np.ndarray]:
        done = []
        for row, length in zip(self.tokens.cpu().numpy(), self.lengths, strict=True):
            new = row[length : length + self.budget].astype(np.int32)
            stop = np.flatnonzero(new == self.eos) if self.eos is not None else np.zeros(0, np.int64)
            done.append(new[: stop[0] + 1] if len(stop) else new)
        return done
