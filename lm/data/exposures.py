"""How many optimizer steps show every fixed item (person) a given number of times.

The exposures of Part 3.3 (Physics of Language Models, arXiv 2404.05405, section 2): 100 or 1000 of every person.
"""

import numpy as np

from synth.corpus import BLOCK_SIZE, Corpus, Packing
from synth.errors import UserError
from synth.mixture import MixedCorpus, cumulative_rows, make_corpus
from synth.task import TrainingData

COUNTED_DOCUMENTS = 1 << 16  # documents whose tokens are counted: a tenth of a second for biographies


def steps_for_exposures(task: TrainingData, exposures: int, batch: int, window: int, packing: Packing) -> int:
    """Optimizer steps after which every fixed item of the task has had `exposures` exposures.

    packing "none": exactly that many. packing "cut": that many or one more, because the last window seldom ends where
    an epoch does (exactly that many where batch * window divides the tokens of the epochs); a batch may hold at most
    one epoch. Documents of varying length are counted with data seed 0, and only in the first epochs if there are very
    many: with another seed the mean length differs (for biographies by about 0.06 / sqrt(people) of itself), and so do
    the exposures, but two items never differ by more than one. Mixture: every item of every part has at least that
    many; parts with few items for their share have more.

    Raises UserError for a task without fixed items; for packing "whole", whose rows hold no fixed number of documents;
    and for packing "none" when `batch` does not divide the documents (the message names the nearest batch that does).
    """
    if exposures < 1:
        raise UserError(f"exposures={exposures} is no training; give at least 1")
    corpus = make_corpus(task, 0, seq_len=window, packing=packing)
    if corpus.num_items is None:
        raise UserError(f"task {task.name} has no fixed items to be exposed; give steps instead of exposures")
    if packing == "whole":
        raise UserError("packing=whole has no fixed number of documents a row; plan exposures with none or cut")
    if isinstance(corpus, MixedCorpus):
        return -(-_mixture_rows_needed(corpus, exposures) // batch)
    documents = exposures * corpus.num_items
    if packing == "none" and documents % batch:
        raise UserError(
            f"batch_size={batch} does not divide {exposures} exposures of {corpus.num_items} items; "
            f"the nearest that does is batch_size={_nearest_divisor(documents, batch)}"
        )
    return -(-_rows_needed(corpus, exposures) // batch)


def _rows_needed(corpus: Corpus, exposures: int) -> int:
    """Rows in which every item of one task appears `exposures` times."""
    documents = exposures * (corpus.num_items or 0)
    if corpus.packing == "none":
        return documents
    return -(-(_tokens_in(corpus, documents) - 1) // corpus.seq_len)  # the first <bos> is nobody's target


def _mixture_rows_needed(corpus: MixedCorpus, exposures: int) -> int:
    """Rows of the mixture after which every part has had the rows that it needs."""
    shares, needed = corpus.task.shares, [_rows_needed(part, exposures) for part in corpus.parts]
    about = max(int(rows / share) for rows, share in zip(needed, shares, strict=True))
    spare = len(shares) + int(len(shares) / min(shares))  # as far as a part may be from its share
    near = np.arange(max(about - spare, 0), about + spare + 1)
    enough = (cumulative_rows(shares, near) >= np.array(needed)).all(axis=1)
    return int(near[enough.argmax()])


def _tokens_in(corpus: Corpus, documents: int) -> int:
    """Tokens of the first `documents` documents; for very many, estimated from the mean over whole epochs."""
    items = corpus.num_items or 1
    counted = min(documents, COUNTED_DOCUMENTS // items * items or COUNTED_DOCUMENTS)
    blocks = (corpus.block(number).lengths for number in range(-(-counted // BLOCK_SIZE)))
    seen = sum(int(lengths[: counted - number * BLOCK_SIZE].sum()) for number, lengths in enumerate(blocks))
    return -(-seen * documents // counted)


def _nearest_divisor(number: int, near: int) -> int:
    distance = 0
    while True:
        for candidate in (near - distance, near + distance):
            if candidate > 0 and number % candidate == 0:
                return candidate
        distance += 1
