"""Inputs and labels of the P- and Q-probes: biographies or full names, first words or whole values.

Part 3.1 (arXiv 2309.14316), section 5: a biography is probed at the last token before each of its six values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from probing.knowledge.qa_data import name_words
from synth import Corpus
from synth.bio.value_lists import ATTRIBUTES
from synth.tasks.bios import EMPLOYER_CITY, BioS, World, biographies_of


@dataclass(frozen=True)
class ProbeTexts:
    """documents: n texts, ids (T,) each. positions (n, K): where hidden states are read. value_already_seen (n, K, 6):
    whether an attribute's value begins at or before the position."""

    documents: list[np.ndarray]
    positions: Int[np.ndarray, "n K"]
    value_already_seen: Bool[np.ndarray, "n K 6"]


TextSource = Callable[[np.ndarray, np.ndarray], ProbeTexts]  # from people (n,) and the epoch of each (n,)


def biography_source(corpus: Corpus) -> TextSource:
    """Biographies, cut after the last of the six positions; positions are in the order of the text."""

    def make_texts(people: np.ndarray, epochs: np.ndarray) -> ProbeTexts:
        block = corpus.render_items(people, epochs, labels=True)
        attribute = block.labels["attribute"]
        value_tokens = np.flatnonzero((attribute >= 0) & (attribute < len(ATTRIBUTES)))
        owner = np.repeat(np.arange(len(block)), block.lengths)
        keys = owner[value_tokens] * len(ATTRIBUTES) + attribute[value_tokens]
        first_tokens = value_tokens[np.unique(keys, return_index=True)[1]]
        starts = first_tokens.reshape(len(block), -1) - block.offsets[:-1, None]  # (n, 6): a text has all six values
        positions = np.sort(starts) - 1
        documents = [text[: end + 1] for text, end in zip(block.documents, positions[:, -1], strict=True)]
        return ProbeTexts(documents, positions, starts[:, None] <= positions[..., None])

    return make_texts


def name_source(corpus: Corpus) -> TextSource:
    """<bos> full name <eos>, with the position of <eos>; no value has been seen."""
    documents = name_documents(biographies_of(corpus.task), corpus.world)
    last = np.array([len(document) - 1 for document in documents])

    def make_texts(people: np.ndarray, epochs: np.ndarray) -> ProbeTexts:
        none_seen = np.zeros((len(people), 1, len(ATTRIBUTES)), bool)
        return ProbeTexts([documents[person] for person in people], last[people, None], none_seen)

    return make_texts


def name_documents(task: BioS, world: World) -> list[np.ndarray]:
    """<bos> full name <eos> of each person, ids (T,)."""
    vocab, names = task.vocab(), (" ".join(name_words(task, numbers)) for numbers in world.names.tolist())
    return [np.array([vocab.bos, *task.encode(name), vocab.eos], np.int32) for name in names]


def first_word_ids(task: BioS, world: World) -> Int[np.ndarray, "6 N"]:
    """The id (in the lexicon's vocabulary) of the first word of each of N people's values."""
    texts = task.lexicon.values
    return texts.flat[texts.starts[task.lexicon.value_offsets + world.values]].T.astype(np.int64)


def value_ids(task: BioS, world: World) -> Int[np.ndarray, "6 N"]:
    """An id of each of N people's values; employers in the same city have one employer city."""
    values = world.values.T.copy()
    values[EMPLOYER_CITY] = np.unique(task.value_lists.employer_cities, return_inverse=True)[1][values[EMPLOYER_CITY]]
    return values
