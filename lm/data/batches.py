"""Training batches, drawn from a corpus by a thread that runs ahead of the optimizer."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm.config import TrainConfig
from lm.data.mlm import IGNORE_INDEX, mask_tokens
from synth.corpus import Cursor
from synth.mixture import AnyCorpus

PREFETCH_CHUNK = 8  # batches drawn at a time: the thread seldom wakes while a small model takes steps of milliseconds


@dataclass(frozen=True)
class TrainBatch:
    """The data of one optimizer step: inputs and targets (B, T) int64, targets IGNORE_INDEX where there is no loss;
    documents (B, T), which numbers the documents of a row for the document mask, or None.

    cursor: where the next batch begins. A checkpoint stores it once this batch has reached the optimizer.
    """

    inputs: Tensor
    targets: Tensor
    documents: Tensor | None
    num_targets: int  # targets with a loss
    num_tokens: int  # inputs that are not padding
    num_documents: int  # documents whose last token is a target of this batch
    item_ids: np.ndarray
    cursor: Cursor


def make_batch(corpus: AnyCorpus, config: TrainConfig, cursor: Cursor) -> TrainBatch:
    """The batch that begins at `cursor`."""
    batch, after = corpus.batch(cursor, config.batch_size)
    if config.objective == "masked":
        inputs, targets = mask_tokens(corpus, cursor, batch.inputs)
    else:
        inputs, targets = batch.inputs, np.where(batch.loss_mask, batch.targets, IGNORE_INDEX)
    documents = _pinned(np.ascontiguousarray(batch.documents)) if config.document_mask else None
    is_loss, is_token = targets != IGNORE_INDEX, batch.inputs != corpus.vocab.pad
    losses, tokens, ends = (int(mask.sum()) for mask in (is_loss, is_token, batch.targets == corpus.vocab.eos))
    x, y = _pinned(inputs.astype(np.int64)), _pinned(targets.astype(np.int64))
    return TrainBatch(x, y, documents, losses, tokens, ends, batch.item_ids, after)


def _pinned(array: np.ndarray) -> Tensor:
    """The array as a tensor, in pinned memory where there is a GPU, so that copying does not block."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def prefetch_batches(
    corpus: AnyCorpus, config: TrainConfig, cursor: Cursor, steps: int, ahead: int = 2
) -> Iterator[TrainBatch]:
    """Yield the next `steps` batches; a thread draws up to `ahead` chunks of PREFETCH_CHUNK batches in advance."""

    def draw(count: int) -> list[TrainBatch]:
        nonlocal cursor
        drawn = []
        for _ in range(count):
            drawn.append(make_batch(corpus, config, cursor))
            cursor = drawn[-1].cursor
        return drawn

    chunks = [min(PREFETCH_CHUNK, steps - begin) for begin in range(0, steps, PREFETCH_CHUNK)]
    pool = ThreadPoolExecutor(1)  # one worker: batches are drawn in order, each from the cursor of the one before
    try:
        waiting = deque(pool.submit(draw, count) for count in chunks[:ahead])
        for number in range(len(chunks)):
            ready = waiting.popleft().result()
            if number + ahead < len(chunks):
                waiting.append(pool.submit(draw, chunks[number + ahead]))
            yield from ready
    finally:
        pool.shutdown(cancel_futures=True)
