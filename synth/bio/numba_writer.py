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
    labels; mentions (n, m) how each sentence speaks of the person. part and attribute are labels, filled unless empty;
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
        for j in range(mentions.shape[1]):
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
                elif mentions[i, j] == BY_NAME:
                    at = _copy(names[i], 0, 3, tokens, at)
                    if not known:
                        named[i] = at - offsets[i]
                        if labelled:
                            part[begin:at] = NAME
                    known = True
                    if code == -3 or code == -4:
                        tokens[at] = possessive
                        at += 1
                elif mentions[i, j] == BY_PRONOUN:
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


@njit(cache=True, nogil=True)
def compose(
    random, order, sizes, forms, starts, counts, phrase_starts, phrase_counts, people, later,
    pieces, about, spoken, nats,
):  # fmt: skip
    """Fills the pieces (n, m) of n biographies in prose, with what prose.plan says of them; the rest of a row stays 0.

    random (n, 12): a word for each of up to six sentences, then one for each attribute in its place of order (n, 6);
    sizes (n, 6): attributes in each sentence; later: how the person is spoken of after the first time.
    """
    for i in range(len(order)):
        at = begin = 0
        named = False
        for sentence in range(6):
            size = sizes[i, sentence]
            if size == 0:
                break
            row = min(sentence, 1)
            many = counts[row, size - 1]
            form = starts[row, size - 1] + _below(random[i, sentence], many)
            nats[i] += np.log(many)
            for k in range(forms.shape[1]):
                part = forms[form, k]
                if part == 0:
                    break
                if part < 0:
                    kind, place = (-1 - part) // 3, begin + (-1 - part) % 3
                    many = phrase_counts[kind, order[i, place]]
                    nats[i] += np.log(many)
                    part = phrase_starts[kind, order[i, place]] + _below(random[i, 6 + place], many)
                    about[i, at] = order[i, place]
                elif people[part]:
                    spoken[i, at] = later if named else BY_NAME
                    named = True
                pieces[i, at] = part
                at += 1
            begin += size


@njit(cache=True, nogil=True, inline="always")
def _below(word, bound):
    """streams.below for one word."""
    return np.int64(((word >> np.uint64(33)) * np.uint64(bound)) >> np.uint64(31))


def block_arrays(n: int, longest: int, labels: bool) -> tuple[np.ndarray, ...]:
    """The arrays that `write` fills: tokens, part, attribute, offsets, named, valued."""
    size = n * longest
    marks = size if labels else 0
    return (
        np.empty(size, np.int32), np.zeros(marks, np.int8), np.full(marks, -1, np.int8),
        np.empty(n + 1, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64),
    )  # fmt: skip
