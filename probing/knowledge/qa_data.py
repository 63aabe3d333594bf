"""What can be asked about the people of bioS: questions with their true answers, and all answers that there are.

The questions of Part 3.1 (arXiv 2309.14316, section 2.2), answered from known lists of values. Half of the people are
asked about in training, the other half is held out: a model is examined on people, never on phrasings.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synth.corpus import Corpus
from synth.errors import UserError
from synth.mixture import people_of
from synth.task import Task
from synth.tasks.bioqa import BioQuestions
from synth.tasks.bios import BioS

Ids = tuple[int, ...]


def questions_of(task: Task, half: Any) -> BioQuestions:
    """The questions about one half of a task's people. Raises UserError when they cannot be asked."""
    people = people_of(task)
    if not people.questions:
        raise UserError("the vocabulary has no words for questions; pretrain on bioS with questions=4")
    return people.recast(BioQuestions, half=half)


@dataclass(frozen=True)
class Choices:
    """The values of one attribute, distinct, as ids; shares: how probable each is for a person of whom nothing is
    known; stop: the ids of the full stop."""

    values: tuple[Ids, ...]
    shares: np.ndarray
    stop: Ids

    @cached_property
    def number(self) -> dict[Ids, int]:
        """From a value to its number."""
        return {value: i for i, value in enumerate(self.values)}

    @property
    def candidates(self) -> list[Ids]:
        """The values with their full stop: without it, a value that begins another one could never lose to it."""
        return [value + self.stop for value in self.values]

    @property
    def chance(self) -> float:
        """How often the commonest value is right."""
        return float(self.shares.max())

    @property
    def first_chance(self) -> float:
        """How often the commonest first token is right: many universities begin with "University"."""
        firsts: Counter[int] = Counter()
        for value, share in zip(self.values, self.shares.tolist(), strict=True):
            firsts[value[0]] += share
        return max(firsts.values())

    @property
    def nats(self) -> float:
        """The loss of who knows the shares and no person."""
        return float(-(self.shares * np.log(self.shares)).sum())


def choices(people: BioS) -> tuple[Choices, ...]:
    """The values of each attribute, in the order of ATTRIBUTES, spelled as in training. A city of employers is as
    probable as there are employers in it."""
    lists, kit = people.lists, people.kit
    sizes = (*lists.sizes, people.employers)
    stop = tuple(people.encode(".").tolist())
    found = []
    for first, size in zip(kit.bases.tolist(), sizes, strict=True):
        counts = Counter(_spelled(people, kit.values.rows[row]) for row in range(first, first + size))
        found.append(Choices(tuple(counts), np.array(list(counts.values())) / size, stop))
    return tuple(found)


def _spelled(people: BioS, words: Ids) -> Ids:
    if people.speller is None:
        return words
    return tuple(i for word in words for i in people.speller.table.rows[word])


@dataclass(frozen=True)
class Questions:
    """documents: ids, each a prompt, the true value, its full stop and perhaps more; prompts, values (n,): how many
    tokens those have; people, about (n,): whom and which of ATTRIBUTES they ask about; choices: the values of each
    attribute."""

    documents: Sequence[np.ndarray]
    prompts: np.ndarray
    values: np.ndarray
    people: np.ndarray
    about: np.ndarray
    choices: tuple[Choices, ...]

    @property
    def truths(self) -> np.ndarray:
        """The number (n,) of the true value among the choices."""
        parts = zip(self.documents, self.prompts, self.values, self.about, strict=True)
        return np.array([self.choices[a].number[tuple(d[p : p + v].tolist())] for d, p, v, a in parts])

    @classmethod
    def of(cls, corpus: Corpus, items: np.ndarray) -> "Questions":
        """Items (n,) of a corpus of questions, as it words them in its first epoch."""
        task = corpus.task
        assert isinstance(task, BioQuestions)
        block, found = corpus.about(items, np.zeros_like(items)), choices(task)
        behind = len(found[0].stop) + 1  # the full stop and <eos>
        values = block.lengths - block.prompt_lengths - behind
        return cls(block.documents, block.prompt_lengths, values, *task.who_and_what(items), found)
