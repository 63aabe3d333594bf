"""Biographies written token by token from tables of ids: a few hundred nanoseconds a sentence."""

import numpy as np
from numba import njit

from synth.bio.tables import BY_NAME, BY_PRONOUN
from synth.bio.world import NAME
from synth.bio.world import VALUE as INSIDE

VALUE_SLOT = -6
GENDER = 6  # the label of the pronoun, after the six attributes


@njit(cache=True, nogil=True)
def write(
    names, genders, values, sentences, attributes, mentions, texts, text_starts, value_texts, value_starts,
    pronouns, somebody, somebody_starts, possessive, eos, tokens, part, attribute, offsets, named, valued,
):  # fmt: skip
    """Writes n documents end to end into tokens and returns their total length.

    names (n, 3) ids; genders (n,); values (n, m) rows of value_texts; sentences (n, m) rows of texts; attributes (n, m)
    labels; mentions (m,) how each sentence speaks of the person. part and attribute are labels, filled unless empty;
    offsets (n+1,); named and valued (n,): tokens of the document before the end of its first name, and before its first
    value, 0 where there is none.
    """
    at = 0
    labelled = len(part) > 0
    for i in range(len(names)):
        offsets[i] = at
        tokens[at] = 0
        at += 1
        known = gendered = False
        for j in range(len(mentions)):
            for k in range(text_starts[sentences[i, j]], text_starts[sentences[i, j] + 1]):
                code = texts[k]
                begin = at
                if code >= 0:
                    tokens[at] = code
                    at += 1
                elif code == VALUE_SLOT:
                    row = values[i, j]
                    at = _copy(value_texts, value_starts[row], value_starts[row + 1], tokens, at)
                    if valued[i] == 0:
                        valued[i] = begin - offsets[i]
                    if labelled:
                        part[begin:at] = INSIDE
                        attribute[begin:at] = attributes[i, j]
                elif mentions[j] == BY_NAME:
                    at = _copy(names[i], 0, 3, tokens, at)
                    if not known:
                        named[i] = at - offsets[i]
                        if labelled:
                            part[begin:at] = NAME
                    known = True
                    if code == -3 or code == -4:
                        tokens[at] = possessive
                        at += 1
                elif mentions[j] == BY_PRONOUN:
                    tokens[at] = pronouns[-1 - code, genders[i]]
                    at += 1
                    if labelled and not gendered:
                        part[begin] = INSIDE
                        attribute[begin] = GENDER
                    gendered = True
                else:
                    row = -1 - code
                    at = _copy(somebody, somebody_starts[row], somebody_starts[row + 1], tokens, at)
        tokens[at] = eos
        at += 1
    offsets[len(names)] = at
    return at


@njit(cache=True, nogil=True, inline="always")
def _copy(source, start, stop, target, at):
    for k in range(start, stop):
        target[at] = source[k]
        at += 1
    return at


def block_arrays(n: int, longest: int, labels: bool) -> tuple[np.ndarray, ...]:
    """The arrays that `write` fills: tokens, part, attribute, offsets, named, valued."""
    size = n * longest
    marks = size if labels else 0
    return (
        np.empty(size, np.int32), np.zeros(marks, np.int8), np.full(marks, -1, np.int8),
        np.empty(n + 1, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64),
    )  # fmt: skip
