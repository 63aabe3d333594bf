"""What an encoder is trained on: windows in which some symbols are hidden, to be found from both sides.

BERT's rule (arXiv 1810.04805, section 3.1), with which Part 1 (arXiv 2305.13673) trains its encoders: of all symbols
15% are targets; of these, 80% are replaced by <mask>, 10% by a symbol drawn at random, and 10% are left as they are, so
that the model cannot know which ones it will be asked for.
"""

import numpy as np

from synth.corpus import Cursor
from synth.mixture import Stream
from synth.random.rng import rng

IGNORED = -100  # the target that cross_entropy leaves out by default
RATE, HIDDEN, CHANGED = 0.15, 0.8, 0.1


def masked(corpus: Stream, cursor: Cursor, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the model reads and what it is to say (IGNORED where it is not asked), each (B, T), of the windows `inputs`
    (B, T) that begin at `cursor`.

    <mask> is the id after the vocabulary's own. <bos>, <eos> and <pad> are never targets, whereas the loss mask of a
    task has no say, as it tells what follows a prompt. A pure function of the corpus (its task, seed, split and order)
    and of the cursor: a training that goes on from a checkpoint hides what it would have hidden.
    """
    vocab = corpus.vocab
    draw = rng("mask", corpus.task.key, corpus.seed, corpus.split, corpus.order, cursor.document, cursor.offset)
    lot = draw.random(inputs.shape) / RATE  # below 1 for a target, and then evenly spread
    others = draw.integers(vocab.bos + 1, vocab.eos, inputs.shape)
    target = (lot < 1) & (inputs > vocab.bos) & (inputs < vocab.eos)
    shown = np.where(lot < HIDDEN, vocab.size, np.where(lot < HIDDEN + CHANGED, others, inputs))
    return np.where(target, shown, inputs), np.where(target, inputs, IGNORED)
