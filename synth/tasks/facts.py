"""Facts of one's own from a CSV file, told and asked as the people of bioS (Part 3.1, arXiv 2309.14316)."""

from dataclasses import dataclass, fields
from functools import cached_property
from math import factorial, log
from typing import Any, ClassVar, Literal

import numpy as np

from synth.bio.facts import InformationContent
from synth.bio.world import NAME_PART, VALUE_PART
from synth.errors import UserError
from synth.facts import FactTable, Wording, read_table, read_wording
from synth.facts.wording import ATTRIBUTE, HEADING, NAME, VALUE, split_sentence
from synth.random.rng import bounded_integers, random_uint64, rng
from synth.task import Block, Example, Task
from synth.vocab import Vocab

Half = Literal["all", "first", "second"]
Asked = Literal["none", "first", "second", "all"]


@dataclass(frozen=True)
class FactWorld:
    """The table's rows (N,) in random order, whose halves are taught and held out; and their numbers by name."""

    rows: np.ndarray
    row_of: dict[tuple[int, ...], int]


@dataclass(frozen=True)
class Facts(Task):
    """The facts of a CSV file: a text tells all attributes of a subject, a sentence for each.

    Example: `<bos> About Neon : Its symbol is Ne . The group of Neon is 18 . <eos>`. A file has a header, a column of
    names and columns of attributes. Words are tokens. `asked` mixes questions as those of facts-qa into the texts.
    Source: Part 3.1 (arXiv 2309.14316), section 2, with the user's own table; bits as in Part 3.3 (arXiv 2404.05405).
    Floors: correct of the most frequent values, loss of a model that knows every fact but not which comes next, bits.
    """

    path: str = "elements"
    """CSV file in UTF-8, or elements: the chemical elements 1 to 20"""
    name_column: str | None = None
    """header of the column of names; None: the first"""
    templates: str | None = None
    """file of a sentence a line with {attribute}, {value}, perhaps {name}; a question has {name} and {attribute}"""
    wordings: int = 0
    """different texts of each subject in training; 0: a new one in every epoch"""
    permute: bool = True
    """whether the sentences of a text are in random order"""
    half: Half = "all"
    """subjects whom the texts are about; halves are drawn with the data seed"""
    asked: Asked = "none"
    """subjects about whom questions are mixed in, each question once an epoch"""

    name: ClassVar[str] = "facts"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "a table of one's own; told as in Part 3.1 (arXiv 2309.14316), section 2"

    def __post_init__(self) -> None:
        if self.wordings < 0:
            raise UserError(f"{self.name}: wordings={self.wordings}; give 0 for fresh ones, or a number of texts")
        for field, value, choices in (("half", self.half, _HALVES), ("asked", self.asked, ("none", *_HALVES))):
            if value not in choices:
                raise UserError(f"{self.name}: {field}={value!r} is unknown; choose {', '.join(choices)}")

    # ---- the table ---------------------------------------------------------------------------------------------
    @cached_property
    def table(self) -> FactTable:
        """The facts. Raises UserError if the file is no table."""
        return read_table(self.path, self.name_column)

    @cached_property
    def wording(self) -> Wording:
        """The sentences. Raises UserError if the file has other lines."""
        return read_wording(self.templates)

    def contents(self) -> dict[str, Any]:
        """For the hash of a run: what the files say in place of their paths."""
        sentences = [self.wording.statements, self.wording.questions]
        return {"path": self.table.digest, "name_column": None, "templates": sentences}

    def citation(self) -> str:
        return f"{self.source}; the table {self.path}"

    def vocab(self) -> Vocab:
        return self._vocab

    @cached_property
    def _vocab(self) -> Vocab:
        return Vocab(tuple(sorted(self.table.words | self.wording.words)))

    @cached_property
    def _names(self) -> list[list[int]]:
        return [self._vocab.encode(name).tolist() for name in self.table.names]

    @cached_property
    def _attributes(self) -> list[list[int]]:
        return [self._vocab.encode(attribute).tolist() for attribute in self.table.attributes]

    @cached_property
    def _values(self) -> list[list[list[int]]]:
        return [[self._vocab.encode(value).tolist() for value in column] for column in self.table.columns]

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, by value of the label."""
        return tuple(" ".join(words) for words in self.table.attributes)

    def subjects(self, half: Asked) -> range:
        """The numbers, in the world's order, of the subjects of a half."""
        n = len(self.table.names)
        return {"none": range(0), "all": range(n), "first": range(n // 2), "second": range(n // 2, n)}[half]

    def as_questions(self, half: Half) -> "FactQuestions":
        """Questions about a half of the same subjects, with the same vocabulary."""
        shared = {f.name: getattr(self, f.name) for f in fields(Facts)}
        return FactQuestions(**shared | {"half": half, "asked": "none"})

    def information_content(self, world: FactWorld | None = None) -> InformationContent:
        """N log2(N0 / N) bits of names and N log2 of the distinct values of each attribute, of the subjects of the
        half."""
        return InformationContent(len(self.subjects(self.half)), self.table.log2_names, self.table.log2_values)

    def frequency_bits(self) -> float:
        """Bits that a model is credited with that knows how frequent each value is, and no subject: N times
        log2 D less the entropy, summed over attributes. 0 where all values are equally frequent."""
        entropy = sum(_entropy(column) for column in self.table.columns)
        return len(self.subjects(self.half)) * (sum(self.table.log2_values.values()) - entropy)

    # ---- documents ---------------------------------------------------------------------------------------------
    def world(self, seed: int) -> FactWorld:
        rows = rng("facts halves", seed).permutation(len(self.table.names))
        return FactWorld(rows, {tuple(name): row for row, name in enumerate(self._names)})

    @property
    def num_useful_items(self) -> int:
        """The first items: the texts, of which bits are counted."""
        return len(self.subjects(self.half))

    def num_items(self, world: FactWorld) -> int:
        return self.num_useful_items + len(self.subjects(self.asked)) * len(self.table.attributes)

    def render_block(
        self, world: FactWorld, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Texts, and behind them the questions of `asked`. Labels as in bioS: part and attribute."""
        entry = epochs % self.wordings if self.wordings else epochs
        each = len(self.table.attributes)
        sentences = _below(len(self.wording.statements), stream, "wording", entry, items, each)
        asked = _below(len(self.wording.questions), stream, "question", epochs, items, 1)[:, 0]
        order = np.tile(np.arange(each), (len(items), 1))
        if self.permute:
            order = np.argsort(random_uint64((*stream, "order"), entry, items, each), axis=1)
        examples = []
        for i, item in enumerate(items.tolist()):
            if item < self.num_useful_items:
                row = int(world.rows[self.subjects(self.half)[item]])
                examples.append(self._text(row, order[i].tolist(), sentences[i].tolist()))
            else:
                who, about = divmod(item - self.num_useful_items, each)
                examples.append(self._question(int(world.rows[self.subjects(self.asked)[who]]), about, int(asked[i])))
        block = Block.from_examples(examples)
        found = block.labels if labels else {}
        return Block(block.tokens, block.offsets, block.loss_mask, block.prompt_lengths, block.slices, found)

    def render(self, world: FactWorld, item: int, rng: np.random.Generator, split: str) -> Example:
        stream = ("render", int(rng.integers(2**62)))
        return self.render_block(world, np.array([item]), np.zeros(1, np.int64), stream, split, labels=True)[0]

    def sample(self, world: FactWorld, rng: np.random.Generator, split: str) -> Example:
        """A document about an item drawn at random."""
        return self.render(world, int(rng.integers(self.num_items(world))), rng, split)

    def _text(self, row: int, order: list[int], sentences: list[int]) -> Example:
        """The heading and a sentence for each attribute; the prompt ends with the heading."""
        heading = self._fill(HEADING, row, 0)
        pieces = [heading] + [
            self._fill(self.wording.statements[k], row, about) for about, k in zip(order, sentences, strict=True)
        ]
        tokens, part, attribute = (np.concatenate(column) for column in zip(*pieces, strict=True))
        return self._document(tokens, part, attribute, 1 + len(heading[0]), row, "all")

    def _question(self, row: int, about: int, phrasing: int) -> Example:
        """A question with its answer; the prompt ends before the answer."""
        tokens, part, attribute = self._fill(self.wording.questions[phrasing], row, about)
        return self._document(
            tokens, part, attribute, int(np.argmax(part == VALUE_PART)) + 1, row, self.attributes[about]
        )

    def _document(
        self, tokens: np.ndarray, part: np.ndarray, attribute: np.ndarray, prompt: int, row: int, about: str
    ) -> Example:
        ids = np.concatenate([[self._vocab.bos], tokens, [self._vocab.eos]]).astype(np.int32)
        labels = {"part": np.pad(part, 1), "attribute": np.pad(attribute, 1, constant_values=-1)}
        return Example(ids, np.arange(len(ids)) > 0, prompt, {"subject": row, "attribute": about}, labels)

    def _fill(self, words: tuple[str, ...], row: int, about: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens (T,) of a sentence, and their labels part and attribute."""
        slots = {NAME: (self._names[row], NAME_PART), VALUE: (self._values[about][row], VALUE_PART)}
        slots |= {ATTRIBUTE: (self._attributes[about], 0)}
        tokens, part = list[int](), list[int]()
        for word in words:
            ids, kind = slots.get(word) or ([self._vocab.index[word]], 0)
            tokens += ids
            part += [kind] * len(ids)
        parts = np.array(part, np.int8)
        return np.array(tokens, np.int32), parts, np.where(parts == VALUE_PART, about, -1).astype(np.int16)

    # ---- scores ------------------------------------------------------------------------------------------------
    def score(self, world: FactWorld, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """correct: of a text the share of attributes that it states rightly, in any of the sentences; of a question 1
        if the completion is the true value, the full stop, and at most <eos>."""
        if example is not None and example.slices["attribute"] != "all":
            return {"correct": self._is_answer(example, completion)}
        document = np.asarray(completion) if example is None else np.concatenate([example.prompt, completion])
        ids = document.tolist()
        row = self._first_named(world, ids) if example is None else int(example.slices["subject"])
        if row is None:
            return {"correct": 0.0}
        stated = [self._states(ids, row, about) for about in range(len(self.attributes))]
        return {"correct": float(np.mean(stated))}

    def _is_answer(self, example: Example, completion: np.ndarray) -> float:
        truth, ids = example.tokens[example.prompt_length : -1].tolist(), np.asarray(completion).tolist()
        return float(ids == truth or ids == [*truth, self._vocab.eos])

    def _first_named(self, world: FactWorld, ids: list[int]) -> int | None:
        """The subject whose name stands first; of two at one place the longer name."""
        longest = max(map(len, self._names))
        for start in range(len(ids)):
            for length in range(longest, 0, -1):
                if (row := world.row_of.get(tuple(ids[start : start + length]))) is not None:
                    return row
        return None

    def _states(self, ids: list[int], row: int, about: int) -> bool:
        """Whether a document has one of the true sentences about an attribute."""
        return any(_contains(ids, self._fill(words, row, about)[0].tolist()) for words in self.wording.statements)

    def floors(self, world: FactWorld) -> dict[str, float]:
        """correct: of the most frequent value of each attribute; loss, of texts alone: nats a token of a model that
        knows every fact, but neither the subject nor the wording (mean length of the texts); bits."""
        texts, each = self.num_useful_items, len(self.attributes)
        fresh = each * log(len(self.wording.statements)) + (log(factorial(each)) if self.permute else 0.0)
        nats = log(texts) + (min(fresh, log(self.wordings)) if self.wordings else fresh)
        numbers = np.arange(texts)
        block = self.render_block(world, numbers, np.zeros_like(numbers), ("floors",), "train")
        floors = {"correct": self.chance_accuracy, "bits": self.information_content().bits}
        return floors if self.asked != "none" else floors | {"loss": nats / (float(block.lengths.mean()) - 1)}

    @property
    def chance_accuracy(self) -> float:
        """Accuracy of always saying the most frequent value, as the mean over attributes."""
        shares = [max(map(column.count, set(column))) / len(column) for column in self.table.columns]
        return float(np.mean(shares))

    def encode_question(self, text: str) -> np.ndarray:
        """Ids (T,) of a question as the model knows it, up to where the answer begins. Raises UserError for a word
        that the table and the sentences do not have."""
        words = [word for piece in text.split() for word in self._known_words(piece)]
        return np.concatenate([[self._vocab.bos], self._vocab.encode([*words, "Answer", ":"])])

    def _known_words(self, piece: str) -> tuple[str, ...]:
        """A piece of text as one word where it is one, else with its punctuation marks apart."""
        return (piece,) if piece in self._vocab.index else _apart(piece, self._vocab)


@dataclass(frozen=True)
class FactQuestions(Facts):
    """Questions about the facts of a CSV file, each in a fresh phrasing for every exposure.

    Example: `<bos> What is the symbol of Neon ? Answer : Ne . <eos>`. With equal fields of facts, subjects, halves and
    vocabulary are those of facts, so a model may be taught on half="first" and tested on "second".
    Source: Part 3.1 (arXiv 2309.14316), section 2.2, with the user's own table.
    Floors: correct of the most frequent values, loss = 0 on answers, bits as facts.
    """

    only_answers: bool = True
    """train on the answers alone, not on the questions"""

    name: ClassVar[str] = "facts-qa"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "a table of one's own; asked as in Part 3.1 (arXiv 2309.14316), section 2.2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.asked != "none":
            raise UserError("facts-qa: asked is for texts; here half says whom the questions are about")

    @property
    def num_useful_items(self) -> int:
        """All: a question for each attribute of each subject."""
        return len(self.subjects(self.half)) * len(self.table.attributes)

    def render_block(
        self, world: FactWorld, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """Questions with their answers about the subjects of the half."""
        each, about_whom = len(self.table.attributes), self.subjects(self.half)
        phrasings = _below(len(self.wording.questions), stream, "question", epochs, items, 1)[:, 0].tolist()
        keys = zip(items.tolist(), phrasings, strict=True)
        examples = [self._question(int(world.rows[about_whom[i // each]]), i % each, k) for i, k in keys]
        block = Block.from_examples(examples)
        starts = np.repeat(block.offsets[:-1] + block.prompt_lengths, block.lengths)
        mask = np.arange(len(starts)) >= starts if self.only_answers else block.loss_mask
        found = block.labels if labels else {}
        return Block(block.tokens, block.offsets, mask, block.prompt_lengths, block.slices, found)

    def floors(self, world: FactWorld) -> dict[str, float]:
        """correct: of the most frequent value of each attribute; loss: 0 on answers; bits: as in facts."""
        floors = {"correct": self.chance_accuracy, "bits": self.information_content().bits}
        return floors | {"loss": 0.0} if self.only_answers else floors


_HALVES = ("all", "first", "second")


def _below(bound: int, stream: tuple[Any, ...], key: str, epochs: np.ndarray, items: np.ndarray, n: int) -> np.ndarray:
    """Random integers (len(items), n) below `bound`, functions of the epoch and the item."""
    return bounded_integers(random_uint64((*stream, key), epochs, items, n), bound)


def _entropy(column: tuple[Any, ...]) -> float:
    """Entropy in bits of one value of a column."""
    shares = np.unique([" ".join(value) for value in column], return_counts=True)[1] / len(column)
    return float(-(shares * np.log2(shares)).sum())


def _contains(ids: list[int], part: list[int]) -> bool:
    """Whether a list of ids has `part` in one piece."""
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))


def _apart(piece: str, vocab: Vocab) -> tuple[str, ...]:
    """A piece of text with the marks at its end apart, as far as that gives a known word; else as a sentence."""
    for cut in range(len(piece) - 1, 0, -1):
        if piece[:cut] in vocab.index and all(mark in vocab.index for mark in piece[cut:]):
            return (piece[:cut], *piece[cut:])
    return split_sentence(piece)
