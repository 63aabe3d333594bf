"""Compiled loops that write biographies token by token from tables of ids."""

import numpy as np

from synth.bio.tables import BY_NAME, BY_PRONOUN
from synth.bio.world import NAME_PART, VALUE_PART
from synth.compiled_code import njit
from synth.random.numba_rng import bounded_integer

VALUE_SLOT = -6
GENDER_LABEL = 6  # the label of the pronoun, after the six attributes


@njit()
def write_biographies(
    names, genders, values, sentences, attributes, mentions, texts, text_starts, value_texts, value_starts,
    pronouns, role_phrases, role_starts, possessive, eos, tokens, part, attribute, offsets, name_end, first_value,
):  # fmt: skip
    """Write n documents into tokens and return their total length.

    names (n, 3) ids; genders (n,); values (n, m) rows of value_texts; sentences (n, m) rows of texts; attributes (n, m)
    labels; mentions (n, m) how each sentence mentions the person. Outputs: part and attribute, per-token labels, unless
    empty; offsets (n+1,); name_end and first_value (n,), positions in the document of the end of the first name and of
    the first value, 0 if there is none.
    """
    at = 0
    has_labels = len(part) > 0
    for i in range(len(names)):
        offsets[i] = at
        tokens[at] = 0
        at += 1
        is_named = is_gendered = False
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
                    if first_value[i] == 0:
                        first_value[i] = begin - offsets[i]
                    if has_labels:
                        part[begin:at] = VALUE_PART
                        attribute[begin:at] = attributes[i, j]
                elif mentions[i, j] == BY_NAME:
                    at = _copy(names[i], 0, 3, tokens, at)
                    if not is_named:
                        name_end[i] = at - offsets[i]
                        if has_labels:
                            part[begin:at] = NAME_PART
                    is_named = True
                    if code == -3 or code == -4:
                        tokens[at] = possessive
                        at += 1
                elif mentions[i, j] == BY_PRONOUN:
                    tokens[at] = pronouns[-1 - code, genders[i]]
                    at += 1
                    if has_labels and not is_gendered:
                        part[begin] = VALUE_PART
                        attribute[begin] = GENDER_LABEL
                    is_gendered = True
                else:
                    row = -1 - code
                    at = _copy(role_phrases, role_starts[row], role_starts[row + 1], tokens, at)
        tokens[at] = eos
        at += 1
    offsets[len(names)] = at
    return at


@njit(inline="always")
def _copy(source, start, stop, target, at):
    for k in range(start, stop):
        target[at] = source[k]
        at += 1
    return at


@njit()
def compose_prose(
    random, order, sizes, forms, starts, counts, phrase_starts, phrase_counts, people, later_mention,
    pieces, about, mentions, nats,
):  # fmt: skip
    """Fill pieces, about and mentions (n, m) of n biographies in prose, padded with 0; add their entropy to nats (n,).

    random (n, 12): random words for six sentences and for six attributes; order (n, 6): attributes in the order of the
    text; sizes (n, 6): attributes in each sentence; later_mention: kind of mention after the first. Other arguments are
    the fields of prose.ProseArrays.
    """
    for i in range(len(order)):
        at = begin = 0
        is_named = False
        for sentence in range(6):
            size = sizes[i, sentence]
            if size == 0:
                break
            row = min(sentence, 1)
            many = counts[row, size - 1]
            form = starts[row, size - 1] + bounded_integer(random[i, sentence], many)
            nats[i] += np.log(many)
            for k in range(forms.shape[1]):
                part = forms[form, k]
                if part == 0:
                    break
                if part < 0:
                    kind, place = (-1 - part) // 3, begin + (-1 - part) % 3
                    many = phrase_counts[kind, order[i, place]]
                    nats[i] += np.log(many)
                    part = phrase_starts[kind, order[i, place]] + bounded_integer(random[i, 6 + place], many)
                    about[i, at] = order[i, place]
                elif people[part]:
                    mentions[i, at] = later_mention if is_named else BY_NAME
                    is_named = True
                pieces[i, at] = part
                at += 1
            begin += size


def allocate_block(n: int, max_length: int, labels: bool) -> tuple[np.ndarray, ...]:
    """The output arrays of `write_biographies`: tokens, part, attribute, offsets, name_end, first_value."""
    size = n * max_length
    marks = size if labels else 0
    return (
        np.empty(size, np.int32), np.zeros(marks, np.int8), np.full(marks, -1, np.int8),
        np.empty(n + 1, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64),
    )  # fmt: skip
