"""The contract of a task; see docs/add_a_task.md.

The smallest task defines `vocab`, `sample`, `score` and `floors`; everything else has a default.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from synth.errors import UserError
from synth.identity import digest
from synth.random.rng import rng
from synth.user_code import load_file
from synth.vocab import Vocab

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Example:
    """One document as a model sees it.

    tokens (T,) int32 ids, special tokens included; loss_mask (T,) bool, whether the token is a target of the loss;
    prompt_length: number of leading tokens that a model is given in a test; slices: values by which results are grouped
    (difficulty, ...); labels: probe targets, each (T, ...) and aligned with tokens.
    """

    tokens: np.ndarray
    loss_mask: np.ndarray
    prompt_length: int = 1
    slices: Mapping[str, int | float | str] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def prompt(self) -> np.ndarray:
        """The leading tokens (prompt_length,) that a model is given in a test."""
        return self.tokens[: self.prompt_length]


@dataclass(frozen=True)
class Block:
    """n concatenated documents of N tokens in all: the ragged batch form of Example.

    tokens (N,) int32; offsets (n+1,) int64, document i is tokens[offsets[i]:offsets[i+1]]; loss_mask (N,) bool;
    prompt_lengths (n,); slices, each (n,); labels, each (N, ...).
    """

    tokens: np.ndarray
    offsets: np.ndarray
    loss_mask: np.ndarray
    prompt_lengths: np.ndarray
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Example:
        if not -len(self) <= i < len(self):
            raise IndexError(f"document {i} of a block of {len(self)}")
        i %= len(self)
        span = slice(self.offsets[i], self.offsets[i + 1])
        return Example(
            self.tokens[span],
            self.loss_mask[span],
            int(self.prompt_lengths[i]),
            {name: column[i] for name, column in self.slices.items()},
            {name: column[span] for name, column in self.labels.items()},
        )

    @property
    def documents(self) -> list[np.ndarray]:
        """The tokens (T,) of every document."""
        return [self.tokens[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens (n,) of each document, special tokens included."""
        return np.diff(self.offsets)

    @classmethod
    def from_examples(cls, examples: Sequence[Example]) -> "Block":
        """The examples as one block. Raises ValueError when the names of their slices or labels differ."""
        for example in examples:
            if example.slices.keys() != examples[0].slices.keys() or example.labels.keys() != examples[0].labels.keys():
                raise ValueError("examples of one block must have the same slices and labels")
        offsets = np.cumsum([0, *(len(e.tokens) for e in examples)]).astype(np.int64)
        return cls(
            np.concatenate([np.zeros(0, np.int32), *(e.tokens for e in examples)]).astype(np.int32),
            offsets,
            np.concatenate([np.zeros(0, bool), *(e.loss_mask for e in examples)]).astype(bool),
            np.array([e.prompt_length for e in examples], dtype=np.int64),
            {name: np.array([e.slices[name] for e in examples]) for name in (examples[0].slices if examples else ())},
            {
                name: np.concatenate([e.labels[name] for e in examples])
                for name in (examples[0].labels if examples else ())
            },
        )


@dataclass(frozen=True)
class TrainingData(ABC):
    """A source of training data: a task, or a mixture of tasks (synth.mixture).

    ClassVars: name (unique); version, to be raised when the same seed no longer gives the same bytes; source (paper,
    section, figure).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    source: ClassVar[str]

    @abstractmethod
    def vocab(self) -> Vocab:
        """The vocabulary of all documents."""

    def world(self, seed: int) -> Any:
        """Facts that all splits share (people, a grammar), drawn with `seed`; None if every sample is fresh."""
        return None

    def num_items(self, world: Any) -> int | None:
        """Number of fixed items (people, facts) in the world; None if every sample is fresh."""
        return None

    @cached_property
    def key(self) -> str:
        """Hash of name, version and all fields, which seeds all random streams and enters run ids."""
        check_class(type(self))
        return digest([self.name, self.version, self])

    def citation(self) -> str:
        """Source of this configuration, for reports; by default `source`."""
        return self.source


@dataclass(frozen=True)
class Task(TrainingData):
    """A synthetic data set with known truth. Subclasses are frozen dataclasses whose fields are the configuration.

    presets (ClassVar): field values by short name, such as {"cfg3f": {"grammar": "cfg3f"}}.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    origin: ClassVar[str | None] = None  # FILE.py:Class, for a task loaded from a file

    @abstractmethod
    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        """One fresh document, drawn with `rng` only. Not called for a task with fixed items (see `num_items`)."""

    @abstractmethod
    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """Metrics of a completion (C,) of ids that follows the example's prompt.

        With example None the completion is a whole document; a task that cannot score one raises UserError, or fails
        on the None: `synth score` then names the line and its missing "index".
        """

    @abstractmethod
    def floors(self, world: Any) -> dict[str, float]:
        """Reference values: chance of each metric, entropy floor of the loss (nats a token), bits of information."""

    def render(self, world: Any, item: int, rng: np.random.Generator, split: str) -> Example:
        """One document about fixed item number `item`; must be defined if `num_items` is not None."""
        raise NotImplementedError(f"task {self.name} has fixed items and so must define render()")

    def render_block(
        self, world: Any, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """One document about each of items (n,), worded as in its epoch of epochs (n,); override for speed.

        The wording may depend on the keys of `stream`, the epoch and the item, but not on the other items, so that a
        document is the same in every block (see `synth.random.rng.random_uint64`).
        """
        keys = zip(epochs.tolist(), items.tolist(), strict=True)
        return Block.from_examples([self.render(world, item, rng(*stream, epoch, item), split) for epoch, item in keys])

    def sample_block(self, world: Any, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n fresh documents; override for speed. The first m of n documents must not depend on n."""
        keys = rng.bit_generator.random_raw((n, 2))  # one generator a document, so that a document does not depend on n
        children = (np.random.Generator(np.random.Philox(key=key)) for key in keys)
        return Block.from_examples([self.sample(world, child, split) for child in children])

    def detail(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, Any]:
        """All that an exact oracle knows about a completion, as JSON values; by default its scores."""
        return dict(self.score(world, example, completion))

    def statistics(self, world: Any, block: Block) -> dict[str, float]:
        """What else there is to know of documents of this kind, for `synth show`: numbers by a name of a few words."""
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        # A task from a file outside the packages cannot be found again by module name in a worker process.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return rebuild, (self.origin or type(self), values)


def rebuild(origin: str | type[Task], values: dict[str, Any]) -> Task:
    """Unpickle a task, from its class or from the file it was loaded from."""
    if isinstance(origin, str):
        path, _, name = origin.rpartition(":")
        cls = getattr(load_file(Path(path)), name)
        cls.origin = origin
        return cls(**values)
    return origin(**values)


def check_class(cls: type[TrainingData]) -> None:
    """Raise UserError unless a class is itself a frozen dataclass: otherwise its own fields are not hashed."""
    own = vars(cls).get("__dataclass_params__")
    if own is None or not own.frozen:
        raise UserError(
            f"the fields of task {cls.__name__} are not part of its identity; write @dataclass(frozen=True) above it"
        )


def check_split(split: str) -> None:
    """Raise UserError unless `split` is one of SPLITS."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
