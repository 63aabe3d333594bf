"""Documents of different lengths, cut into batches that waste little on padding."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np


def ragged_batches(
    lengths: np.ndarray, most: int, cost: Callable[[int], int] = lambda length: length
) -> Iterator[np.ndarray]:
    """Index arrays covering 0..n-1, documents of like length together: rows times cost(the longest length) is at most
    `most`, or there is one row. By default what is counted are tokens."""
    order = np.argsort(-lengths, kind="stable")  # the first of a batch is its longest
    start = 0
    while start < len(order):
        rows = max(1, most // cost(int(lengths[order[start]])))
        stop = min(start + rows, len(order))
        yield order[start:stop]
        start = stop


def padded(documents: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """The documents `rows` (B,), ids (T,) each, as (B, T) int64, zeros on the right of the shorter ones."""
    found = np.zeros((len(rows), max(len(documents[i]) for i in rows)), np.int64)
    for row, i in zip(found, rows, strict=True):
        row[: len(documents[i])] = documents[i]
    return found
