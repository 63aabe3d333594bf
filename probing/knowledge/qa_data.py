"""Questions about the people of bioS, with their true answers and all possible answers.

The questions of Part 3.1 (arXiv 2309.14316, section 2.2); every attribute has a closed list of values. Training uses
the questions about the first half of the people; evaluation holds out people, never phrasings.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synth.bio.codec import Codec
from synth.bio.tables import POSSESSIVE_SLOTS
from synth.bio.value_lists import ATTRIBUTES, PERSON_SLOTS
from synth.corpus import Corpus
from synth.errors import UserError
from synth.task import TrainingData
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS, biographies_of

Ids = tuple[int, ...]


def make_question_task(task: TrainingData, half: Any) -> BioQuestions:
    """The question task about one half ("first", "second", "all") of a task's people.

    Raises UserError for a task without people, or whose vocabulary has no words for questions.
    """
    people = biographies_of(task)
    if not people.questions:
        raise UserError("the vocabulary has no words for questions; pretrain on bioS with questions=4")
    return people.as_task(BioQuestions, half=half)


def num_questions(corpus: Corpus, people: int | None) -> int:
    """Number of questions about this many people (None: all), at most those that the corpus has."""
    assert corpus.num_items is not None
    return min(corpus.num_items, len(ATTRIBUTES) * people) if people else corpus.num_items


def name_words(people: BioS, numbers: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    """First, middle and last name, from their numbers in the lists."""
    return tuple(people.lexicon.vocab.decode([ids[n] for ids, n in zip(people.lexicon.names, numbers, strict=True)]))


def fill_person(words: Sequence[str], name: str, pronouns: tuple[str, ...] | None = None) -> str:
    """A template in which the name, or the pronouns (in the order of PERSON), stand in the slots for the person."""
    by_name = [f"{name} 's" if slot in POSSESSIVE_SLOTS else name for slot in PERSON_SLOTS]
    person = dict(zip(PERSON_SLOTS, pronouns or by_name, strict=True))
    return " ".join(person.get(word, word) for word in words)


@dataclass(frozen=True)
class AnswerChoices:
    """The possible answers to the questions about one attribute.

    values: token ids of each distinct value. probabilities (C,): of each value, for a random person. full_stop: token
    ids of the full stop behind an answer.
    """

    values: tuple[Ids, ...]
    probabilities: np.ndarray
    full_stop: Ids

    @cached_property
    def index_of(self) -> dict[Ids, int]:
        """The index in `values` of each value."""
        return {value: i for i, value in enumerate(self.values)}

    @property
    def sequences(self) -> list[Ids]:
        """The values with their full stop. Without it, a value could never be less probable than a longer value that
        begins with it."""
        return [value + self.full_stop for value in self.values]

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always answering the most frequent value."""
        return float(self.probabilities.max())

    @property
    def first_token_majority_accuracy(self) -> float:
        """Accuracy of always predicting the most frequent first token: many universities begin with "University"."""
        first_tokens: Counter[int] = Counter()
        for value, probability in zip(self.values, self.probabilities.tolist(), strict=True):
            first_tokens[value[0]] += probability
        return max(first_tokens.values())

    @property
    def entropy_nats(self) -> float:
        """Entropy of the value: the loss of a model that knows the probabilities and no person."""
        return float(-(self.probabilities * np.log(self.probabilities)).sum())


def answer_choices(people: BioS) -> tuple[AnswerChoices, ...]:
    """The choices of each attribute, in the order of ATTRIBUTES, tokenized as in training. The probability of an
    employer city is proportional to its number of employers."""
    lists, kit = people.value_lists, people.lexicon
    sizes = (*lists.sizes, people.employers)
    full_stop = tuple(people.encode(".").tolist())
    rows, choices = kit.values.rows, []
    if people.text_codec is not None:
        rows = [_tokenize_value(people.text_codec, words) for words in rows]
    for first, size in zip(kit.value_offsets.tolist(), sizes, strict=True):
        counts = Counter(rows[first : first + size])
        choices.append(AnswerChoices(tuple(counts), np.array(list(counts.values())) / size, full_stop))
    return tuple(choices)


def _tokenize_value(codec: Codec, words: Ids) -> Ids:
    return tuple(i for word in words for i in codec.word_ids.rows[word])


@dataclass(frozen=True)
class QuestionSet:
    """n tokenized questions with their answers.

    documents: n arrays of ids: the prompt, the true value, its full stop, possibly more. prompt_lengths, value_lengths
    (n,): in tokens. person_ids, attribute_ids (n,): the person, and the index in ATTRIBUTES. choices: of each
    attribute.
    """

    documents: Sequence[np.ndarray]
    prompt_lengths: np.ndarray
    value_lengths: np.ndarray
    person_ids: np.ndarray
    attribute_ids: np.ndarray
    choices: tuple[AnswerChoices, ...]

    @property
    def value_spans(self) -> list[slice]:
        """The place of each true value in its document."""
        return [slice(p, p + v) for p, v in zip(self.prompt_lengths, self.value_lengths, strict=True)]

    @property
    def true_values(self) -> np.ndarray:
        """Index (n,) of each true value among its choices."""
        parts = zip(self.documents, self.value_spans, self.attribute_ids, strict=True)
        return np.array([self.choices[a].index_of[tuple(document[span].tolist())] for document, span, a in parts])

    @classmethod
    def from_corpus(cls, corpus: Corpus, items: np.ndarray) -> "QuestionSet":
        """The questions of these items (n,) of a question corpus, in the wording of its first epoch."""
        task = corpus.task
        assert isinstance(task, BioQuestions)
        block, choices = corpus.render_items(items, np.zeros_like(items)), answer_choices(task)
        value_lengths = block.lengths - block.prompt_lengths - len(choices[0].full_stop) - 1  # 1: <eos>
        return cls(block.documents, block.prompt_lengths, value_lengths, *task.split_items(items), choices)
