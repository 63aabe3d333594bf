"""Losses on facts, summed over the tokens of names and values: p1, p2 and p3 of Part 3.3 (arXiv 2404.05405), section 3.

The tokens are found by the documents' labels, which are described in probing/capacity/bits_per_parameter.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synth.errors import UserError
from synth.task import Block

NAME_PART, VALUE_PART = 1, 2  # values of the label `part`


@dataclass(frozen=True)
class FactLosses:
    """Losses in nats, summed over tokens and averaged over documents: of the name, and by attribute of the value and of
    the value's first chunk."""

    name: float
    values: Mapping[str, float]
    first_chunk_nats: Mapping[str, float]


def nats_per_document(
    nats: np.ndarray, block: Block, attribute_ids: Sequence[int], implied: Mapping[int, int] | None = None
) -> np.ndarray:
    """Losses of n documents summed over tokens (n, 1 + 2 K): of the name at its first mention, of the values of K
    attributes, and of the first chunk of each value (0 without the label chunk). NaN where a document has no such
    value.

    nats (N,): the loss of each token of the block, 0 where nothing was predicted. implied: maps an attribute to the one
    with whose value its tokens are counted where they precede it. Raises UserError for a document without a name.
    """
    owner = np.repeat(np.arange(len(block)), block.lengths)
    part, attribute, chunk = (block.labels.get(name) for name in ("part", "attribute", "chunk"))
    if part is None or attribute is None:
        raise UserError("capacity needs documents with the labels part and attribute")

    def total(mask: np.ndarray) -> np.ndarray:
        sums = np.bincount(owner[mask], nats[mask], len(block))
        return np.where(np.bincount(owner[mask], minlength=len(block)) > 0, sums, np.nan)

    name = total(first_mention(part == NAME_PART, owner))
    if np.isnan(name).any():
        raise UserError(f"document {np.isnan(name).argmax()} names nobody; label its name with part {NAME_PART}")
    masks = {number: (part == VALUE_PART) & (attribute == number) for number in attribute_ids}
    first_chunks = [np.zeros(len(block)) if chunk is None else total(mask & (chunk == 0)) for mask in masks.values()]
    for hint, by in (implied or {}).items():
        masks[by] = masks[by] | (part == VALUE_PART) & (attribute == hint) & _before(masks[by], owner)
    return np.stack([name, *(total(mask) for mask in masks.values()), *first_chunks], axis=1)


def _before(mask: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Mask (N,) of the tokens before the first masked token of their document; empty in documents without one."""
    first = np.full(owner.max(initial=-1) + 1, -1)
    masked = np.flatnonzero(mask)[::-1]
    first[owner[masked]] = masked  # the last assignment to an entry wins: that of the earliest token
    return np.arange(len(owner)) < first[owner]


def first_mention(named: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Mask (N,) of the first run of name tokens in each document; later mentions may be labelled too."""
    begins = named & ~np.concatenate([[False], named[:-1] & (owner[1:] == owner[:-1])])
    runs = np.cumsum(begins)
    start = np.searchsorted(owner, owner)  # first token of each token's document
    return named & (runs - runs[start] + begins[start] == 1)


def average_fact_losses(rows: np.ndarray, names: list[str]) -> FactLosses:
    """Means of `nats_per_document` (n, 1 + 2 K), each over the documents that state the fact, with the names of the K
    attributes. Raises UserError for an attribute that no document states."""
    for name, column in zip(names, rows[:, 1 : 1 + len(names)].T, strict=True):
        if np.isnan(column).all():
            advice = f"label its value with part {VALUE_PART}, or leave it out of facts"
            raise UserError(f"no document tells {name}; {advice}")
    means = [float(mean) for mean in np.nanmean(rows, axis=0)]
    values, first_chunks = means[1 : 1 + len(names)], means[1 + len(names) :]
    return FactLosses(means[0], dict(zip(names, values, strict=True)), dict(zip(names, first_chunks, strict=True)))
