"""Batches of documents of similar length, to save padding."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np


def ragged_batches(
    lengths: np.ndarray, max_cost: int, cost: Callable[[int], int] = lambda length: length
) -> Iterator[np.ndarray]:
    """Index arrays covering 0..n-1, documents sorted by length. Rows times cost(longest length) is at most `max_cost`
    unless there is one row; the default cost is in tokens."""
    order = np.argsort(-lengths, kind="stable")  # the first of a batch is the longest
    start = 0
    while start < len(order):
        rows = max(1, max_cost // cost(int(lengths[order[start]])))
        stop = min(start + rows, len(order))
        yield order[start:stop]
        start = stop


def pad_documents(documents: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The documents with indices `rows` (B,), token ids (T,) each, as (B, T) int64, padded on the right with zeros."""
    padded = np.zeros((len(rows), max(len(documents[i]) for i in rows)), np.int64)
    for row, i in zip(padded, rows, strict=True):
        row[: len(documents[i])] = documents[i]
    return padded
