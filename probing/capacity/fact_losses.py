"""What a model does not know of each fact: losses summed over the tokens of names and values, by the documents' labels.

The p1, p2 and p3 of Part 3.3 (arXiv 2404.05405), section 3. The labels are described in
probing/capacity/bits_per_parameter.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synth.errors import UserError
from synth.task import Block

NAME, VALUE = 1, 2  # of the label part


@dataclass(frozen=True)
class Losses:
    """Nats, summed over tokens and averaged over documents: of names, of values and of first chunks by attribute."""

    name: float
    values: Mapping[str, float]
    firsts: Mapping[str, float]


def nats_per_document(
    nats: np.ndarray, block: Block, numbers: Sequence[int], implied: Mapping[int, int] | None = None
) -> np.ndarray:
    """Sums over tokens (n, 1 + 2 K): the name at its first mention, the value of every attribute of `numbers`, and the
    first chunk of each value (0 without the label chunk); NaN for a value that the document does not tell.

    nats (N,): the loss of each token of the block, 0 where nothing was predicted. implied: attributes whose tokens
    count with another one's where they stand before it. Raises UserError when a document names nobody.
    """
    owner = np.repeat(np.arange(len(block)), block.lengths)
    part, attribute, chunk = (block.labels.get(name) for name in ("part", "attribute", "chunk"))
    if part is None or attribute is None:
        raise UserError("capacity needs documents with the labels part and attribute")

    def total(mask: np.ndarray) -> np.ndarray:
        found = np.bincount(owner[mask], nats[mask], len(block))
        return np.where(np.bincount(owner[mask], minlength=len(block)) > 0, found, np.nan)

    name = total(first_mention(part == NAME, owner))
    if np.isnan(name).any():
        raise UserError(f"document {np.isnan(name).argmax()} names nobody; label its name with part {NAME}")
    told = {number: (part == VALUE) & (attribute == number) for number in numbers}
    firsts = [np.zeros(len(block)) if chunk is None else total(mask & (chunk == 0)) for mask in told.values()]
    for hint, by in (implied or {}).items():
        told[by] = told[by] | (part == VALUE) & (attribute == hint) & _before(told[by], owner)
    return np.stack([name, *(total(mask) for mask in told.values()), *firsts], axis=1)


def _before(mask: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Which tokens (N,) stand before the first masked one of their document; none where nothing is masked."""
    first = np.full(owner.max(initial=-1) + 1, -1)
    here = np.flatnonzero(mask)[::-1]
    first[owner[here]] = here  # the last assignment, of the earliest token, stays
    return np.arange(len(owner)) < first[owner]


def first_mention(named: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """The first unbroken run (N,) bool of named tokens in each document, in case a task labels later ones too."""
    begins = named & ~np.concatenate([[False], named[:-1] & (owner[1:] == owner[:-1])])
    runs = np.cumsum(begins)
    before = np.searchsorted(owner, owner)  # where each token's document begins
    return named & (runs - runs[before] + begins[before] == 1)


def average(rows: np.ndarray, names: list[str]) -> Losses:
    """Means over the documents that tell a fact. Raises UserError for an attribute that none tells."""
    for name, column in zip(names, rows[:, 1 : 1 + len(names)].T, strict=True):
        if np.isnan(column).all():
            raise UserError(f"no document tells {name}; label its value with part {VALUE}, or leave it out of facts")
    means = [float(mean) for mean in np.nanmean(rows, axis=0)]
    values, firsts = means[1 : 1 + len(names)], means[1 + len(names) :]
    return Losses(means[0], dict(zip(names, values, strict=True)), dict(zip(names, firsts, strict=True)))
