"""How long a training lasts that shows every fixed item (person) a given number of times.

The exposures of Part 3.3 (Physics of Language Models, arXiv 2404.05405, section 2): 100 or 1000 of every person.
"""

import numpy as np

from synth.corpus import BLOCK, Corpus, Packing
from synth.errors import UserError
from synth.mixture import MixedCorpus, corpus_of, rows_before
from synth.task import Task

COUNTED = 1 << 16  # documents whose tokens are counted: a tenth of a second for biographies


def steps_for(task: Task, exposures: int, batch: int, window: int, packing: Packing) -> int:
    """Optimizer steps after which every fixed item of the task has had `exposures` exposures.

    packing "none": exactly. packing "cut": that many or one more, as the last window seldom ends where an epoch does
    (exactly, where batch * window divides the tokens of the epochs), if a batch holds no more than an epoch. Documents
    of varying length are counted in data seed 0, of very many only the first epochs: where the mean length of another
    seed differs (between biographies by about 0.06 / sqrt(people) of itself) exposures do too, but whatever the seed
    no two items ever differ by more than one. A mixture: until every item of every part has had at least so many;
    parts with few items for their share have more.

    Raises UserError for a task without fixed items, for packing "whole", whose rows hold no fixed number of
    documents, and for packing "none" when `batch` does not divide the documents; it names the nearest that does.
    """
    if exposures < 1:
        raise UserError(f"exposures={exposures} is no training; give at least 1")
    corpus = corpus_of(task, 0, window=window, packing=packing)
    if corpus.items is None:
        raise UserError(f"task {task.name} has no fixed items to be exposed; give steps instead of exposures")
    if packing == "whole":
        raise UserError("packing=whole has no fixed number of documents a row; plan exposures with none or cut")
    if isinstance(corpus, MixedCorpus):
        return -(-_mixed_rows(corpus, exposures) // batch)
    documents = exposures * corpus.items
    if packing == "none" and documents % batch:
        raise UserError(
            f"batch={batch} does not divide {exposures} exposures of {corpus.items} items; "
            f"the nearest that does is batch={_nearest_divisor(documents, batch)}"
        )
    return -(-_rows(corpus, exposures) // batch)


def _rows(corpus: Corpus, exposures: int) -> int:
    """Rows that tell every item that often."""
    documents = exposures * (corpus.items or 0)
    if corpus.packing == "none":
        return documents
    return -(-(_tokens(corpus, documents) - 1) // corpus.window)  # the first <bos> is nobody's target


def _mixed_rows(corpus: MixedCorpus, exposures: int) -> int:
    """Rows of the mixture until every part has had its rows."""
    shares, needed = corpus.task.shares, [_rows(part, exposures) for part in corpus.parts]
    about = max(int(rows / share) for rows, share in zip(needed, shares, strict=True))
    spare = len(shares) + int(len(shares) / min(shares))  # as far as a part may be from its share
    near = np.arange(max(about - spare, 0), about + spare + 1)
    enough = (rows_before(shares, near) >= np.array(needed)).all(axis=1)
    return int(near[enough.argmax()])


def _tokens(corpus: Corpus, documents: int) -> int:
    """Tokens of the first `documents` documents; of many, from the mean over whole epochs of them if one fits."""
    items = corpus.items or 1
    counted = min(documents, COUNTED // items * items or COUNTED)
    blocks = (corpus.block(number).lengths for number in range(-(-counted // BLOCK)))
    seen = sum(int(lengths[: counted - number * BLOCK].sum()) for number, lengths in enumerate(blocks))
    return -(-seen * documents // counted)


def _nearest_divisor(number: int, near: int) -> int:
    distance = 0
    while True:
        for candidate in (near - distance, near + distance):
            if candidate > 0 and number % candidate == 0:
                return candidate
        distance += 1
