"""Masked language modelling: windows in which some tokens are replaced, to be predicted from both sides.

BERT's rule (arXiv 1810.04805, section 3.1), with which Part 1 (arXiv 2305.13673) trains its encoders: of all symbols
15% are targets; of these, 80% are replaced by <mask>, 10% by a symbol drawn at random, and 10% stay as they are: the
model cannot tell which positions are targets.
"""

import numpy as np

from synth.corpus import Cursor
from synth.mixture import AnyCorpus
from synth.random.rng import rng

IGNORE_INDEX = -100  # the target that cross_entropy leaves out by default
MASK_RATE, REPLACED_BY_MASK, REPLACED_AT_RANDOM = 0.15, 0.8, 0.1


def mask_tokens(corpus: AnyCorpus, cursor: Cursor, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masked inputs and targets, each (B, T), of the windows `inputs` (B, T) that begin at `cursor`; targets are
    IGNORE_INDEX where nothing is predicted.

    <mask> has the id after the vocabulary's own. <bos>, <eos> and <pad> are never targets; the task's loss mask, which
    marks what follows a prompt, is not used. The masks are a pure function of the corpus (task, seed, split, order) and
    the cursor, so that a resumed training masks the same tokens.
    """
    vocab = corpus.vocab
    draw = rng("mask", corpus.task.key, corpus.seed, corpus.split, corpus.order_seed, cursor.document, cursor.offset)
    score = draw.random(inputs.shape) / MASK_RATE  # below 1 for a target, and then evenly spread
    others = draw.integers(vocab.bos + 1, vocab.eos, inputs.shape)
    target = (score < 1) & (inputs > vocab.bos) & (inputs < vocab.eos)
    replaced = np.where(score < REPLACED_BY_MASK + REPLACED_AT_RANDOM, others, inputs)
    shown = np.where(score < REPLACED_BY_MASK, vocab.size, replaced)
    return np.where(target, shown, inputs), np.where(target, inputs, IGNORE_INDEX)
