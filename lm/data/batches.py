"""Batches of a corpus, prepared one thread ahead of the optimizer."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm.config import TrainConfig
from lm.data.mlm import IGNORED, masked
from synth.corpus import Cursor
from synth.mixture import Stream

LOT = 8  # batches drawn at a time, so that the thread seldom wakes beside a model whose steps take milliseconds


@dataclass(frozen=True)
class Feed:
    """One optimizer step's data: inputs, targets (B, T) int64 (-100 where not trained on), documents (B, T) or None.

    `cursor` is where the next batch begins: stored once this one has reached the optimizer, it makes resume exact.
    """

    inputs: Tensor
    targets: Tensor
    documents: Tensor | None
    trained: int  # targets that count
    tokens: int  # inputs that are not padding
    ended: int  # documents whose last token is a target of this batch
    items: np.ndarray
    cursor: Cursor


def feed(corpus: Stream, config: TrainConfig, cursor: Cursor) -> Feed:
    """The batch at `cursor`."""
    batch, after = corpus.batch(cursor, config.batch)
    if config.objective == "masked":
        inputs, targets = masked(corpus, cursor, batch.inputs)
    else:
        inputs, targets = batch.inputs, np.where(batch.loss_mask, batch.targets, IGNORED)
    return Feed(
        _ready(inputs.astype(np.int64)),
        _ready(targets.astype(np.int64)),
        _ready(np.ascontiguousarray(batch.documents)) if config.isolate else None,
        int((targets != IGNORED).sum()),
        int((batch.inputs != corpus.vocab.pad).sum()),
        int((batch.targets == corpus.vocab.eos).sum()),
        batch.items,
        after,
    )


def _ready(array: np.ndarray) -> Tensor:
    """The array as a tensor, in pinned memory where a GPU will copy it without making this process wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def feeds(corpus: Stream, config: TrainConfig, cursor: Cursor, steps: int, ahead: int = 2) -> Iterator[Feed]:
    """The next `steps` batches. A thread samples `ahead` lots of them while the optimizer works."""

    def draw(count: int) -> list[Feed]:
        nonlocal cursor
        drawn = []
        for _ in range(count):
            drawn.append(feed(corpus, config, cursor))
            cursor = drawn[-1].cursor
        return drawn

    lots = [min(LOT, steps - begin) for begin in range(0, steps, LOT)]
    pool = ThreadPoolExecutor(1)  # one worker: batches are drawn in order, each from the cursor of the one before
    try:
        waiting = deque(pool.submit(draw, count) for count in lots[:ahead])
        for number in range(len(lots)):
            ready = waiting.popleft().result()
            if number + ahead < len(lots):
                waiting.append(pool.submit(draw, lots[number + ahead]))
            yield from ready
    finally:
        pool.shutdown(cancel_futures=True)
