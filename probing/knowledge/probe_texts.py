"""What the P- and Q-probes read, biographies or bare names, and what they ask for, first words or whole values.

Part 3.1 (arXiv 2309.14316), section 5: the special positions are those just before the first words of the six values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from synth import Corpus
from synth.bio.value_lists import ATTRIBUTES
from synth.mixture import people_of
from synth.tasks.bios import CITY, BioS, World


@dataclass(frozen=True)
class Texts:
    """documents: n texts, ids (T,) each; positions (n, K) to be read at; told (n, K, 6): whether an attribute's value
    has begun there already."""

    documents: list[np.ndarray]
    positions: Int[np.ndarray, "n K"]
    told: Bool[np.ndarray, "n K 6"]


Source = Callable[[np.ndarray, np.ndarray], Texts]  # from people (n,) and how often each was told of before (n,)


def biographies(corpus: Corpus) -> Source:
    """Biographies up to the last of the six positions, which stand in the order of the text."""

    def told(people: np.ndarray, turns: np.ndarray) -> Texts:
        block = corpus.about(people, turns, labels=True)
        attribute = block.labels["attribute"]
        inside = np.flatnonzero((attribute >= 0) & (attribute < len(ATTRIBUTES)))
        owner = np.repeat(np.arange(len(block)), block.lengths)
        firsts = np.unique(owner[inside] * len(ATTRIBUTES) + attribute[inside], return_index=True)[1]
        starts = inside[firsts].reshape(len(block), -1) - block.offsets[:-1, None]  # (n, 6): all are always told
        positions = np.sort(starts) - 1
        documents = [text[: end + 1] for text, end in zip(block.documents, positions[:, -1], strict=True)]
        return Texts(documents, positions, starts[:, None] <= positions[..., None])

    return told


def full_names(corpus: Corpus) -> Source:
    """<bos> full name <eos>, to be read at the end; nothing is told."""
    documents = names(people_of(corpus.task), corpus.world)
    last = np.array([len(document) - 1 for document in documents])

    def named(people: np.ndarray, turns: np.ndarray) -> Texts:
        nothing = np.zeros((len(people), 1, len(ATTRIBUTES)), bool)
        return Texts([documents[person] for person in people], last[people, None], nothing)

    return named


def names(task: BioS, world: World) -> list[np.ndarray]:
    """<bos> full name <eos> of everybody, ids (T,) each."""
    vocab, lists = task.vocab(), (task.lists.first, task.lists.middle, task.lists.last)
    texts = (" ".join(part[i] for part, i in zip(lists, name, strict=True)) for name in world.names.tolist())
    return [np.array([vocab.bos, *task.encode(text), vocab.eos], np.int32) for text in texts]


def first_words(task: BioS, world: World) -> Int[np.ndarray, "6 N"]:
    """The id (in kit.vocab) of the first word of each value."""
    texts = task.kit.values
    return texts.flat[texts.starts[task.kit.bases + world.values]].T.astype(np.int64)


def whole_values(task: BioS, world: World) -> Int[np.ndarray, "6 N"]:
    """The number of each value; of the employer's city that of the city, as employers may share one."""
    found = world.values.T.copy()
    found[CITY] = np.unique(task.lists.employer_cities, return_inverse=True)[1][found[CITY]]
    return found
