"""The contract of a task: fixed facts, samples, scores and floors, in one file.

A task is a frozen dataclass whose fields are its configuration. The smallest task defines `vocab`, `sample`, `score`
and `floors`; everything else has a default. See docs/add_a_task.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from synth.errors import UserError
from synth.identity import digest
from synth.random.rng import rng
from synth.vocab import Vocab

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Example:
    """One document as a model sees it.

    tokens (T,) int32 ids, special tokens included; loss_mask (T,) bool, True where the token is to be predicted;
    prompt_length: how many leading tokens are given at test time; slices: columns of result tables (difficulty, ...);
    labels: probe targets, each (T, ...) and aligned with tokens.
    """

    tokens: np.ndarray
    loss_mask: np.ndarray
    prompt_length: int = 1
    slices: Mapping[str, int | float | str] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def prompt(self) -> np.ndarray:
        """The tokens (c,) that a model is given when it is tested on this example."""
        return self.tokens[: self.prompt_length]


@dataclass(frozen=True)
class Block:
    """n documents stored end to end: the ragged batch form of Example.

    tokens (N,) int32, offsets (n+1,) int64 (document i is tokens[offsets[i]:offsets[i+1]]), loss_mask (N,) bool,
    prompt_lengths (n,), slices: each (n,), labels: each (N, ...).
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
        """Length of every document (n,), special tokens included."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Block":
        """The block that holds these examples in order. Raises ValueError when their columns differ."""
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
class Task(ABC):
    """A synthetic world with a known truth. Subclasses are frozen dataclasses: their fields are the configuration.

    ClassVars: name (unique, on the command line), version (raise it when the same seed no longer gives the same bytes),
    source (paper, section, figure), presets (short names for field values, e.g. {"cfg3f": {"grammar": "cfg3f"}}).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    source: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    origin: ClassVar[str | None] = None  # the file a task was loaded from when it lies outside the installed packages

    @abstractmethod
    def vocab(self) -> Vocab:
        """The closed vocabulary."""

    @abstractmethod
    def sample(self, world: Any, rng: np.random.Generator, split: str) -> Example:
        """One fresh document, drawn with `rng` alone. Not called for a task with fixed items (see `items`)."""

    @abstractmethod
    def score(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, float]:
        """Judge a completion (C,) of ids that follows the example's prompt.

        With example None the completion is a whole document; a task that cannot judge one raises UserError, or may
        simply use the example: `synth score` then names the line and asks for its "index".
        """

    @abstractmethod
    def floors(self, world: Any) -> dict[str, float]:
        """What knows-nothing and knows-everything score: chance per metric, the entropy floor of the loss, bits."""

    def world(self, seed: int) -> Any:
        """The fixed facts that training and evaluation share (people, a grammar); None where every sample is fresh."""
        return None

    def items(self, world: Any) -> int | None:
        """How many fixed items (people, facts) the world has; None where every sample is fresh."""
        return None

    def render(self, world: Any, item: int, rng: np.random.Generator, split: str) -> Example:
        """One document about fixed item number `item`; a task whose `items` is not None must define it."""
        raise NotImplementedError(f"task {self.name} has fixed items and so must define render()")

    def render_block(
        self, world: Any, items: np.ndarray, epochs: np.ndarray, stream: tuple[Any, ...], split: str,
        labels: bool = False,
    ) -> Block:  # fmt: skip
        """One document about each of items (n,) as it is worded in its epoch of epochs (n,); override for speed.

        The wording may depend on the keys of `stream`, the epoch and the item, but not on the order or the number of
        the items, so that a document is the same in whatever block it is asked for (`streams.words` draws such words).
        """
        keys = zip(epochs.tolist(), items.tolist(), strict=True)
        return Block.of([self.render(world, item, rng(*stream, epoch, item), split) for epoch, item in keys])

    def sample_block(self, world: Any, rng: np.random.Generator, split: str, n: int, labels: bool = False) -> Block:
        """n fresh documents; override for speed. The first m of n documents must not depend on n."""
        keys = rng.bit_generator.random_raw((n, 2))  # a generator of its own for each, whatever n is
        children = (np.random.Generator(np.random.Philox(key=key)) for key in keys)
        return Block.of([self.sample(world, child, split) for child in children])

    def detail(self, world: Any, example: Example | None, completion: np.ndarray) -> dict[str, Any]:
        """Everything an exact oracle can say of a completion, json-able; by default its scores."""
        return dict(self.score(world, example, completion))

    @cached_property
    def key(self) -> str:
        """Hash of name, version and all fields: part of every random stream and of every run's identity."""
        check_class(type(self))
        return digest([self.name, self.version, self])

    def cited(self) -> str:
        """Where the data of this very configuration come from, for reports; by default `source`."""
        return self.source

    def __reduce__(self) -> tuple[Any, ...]:
        # A task from a file outside the packages cannot be found again by module name in a worker process.
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return rebuild, (self.origin or type(self), values)


def rebuild(origin: str | type[Task], values: dict[str, Any]) -> Task:
    """Make a pickled task again, from its class or from the file it was loaded from."""
    if isinstance(origin, str):
        from synth.registry import task_class

        origin = task_class(origin)[0]
    return origin(**values)


def check_class(cls: type[Task]) -> None:
    """Raise UserError unless a task is a frozen dataclass of its own: else its fields are not in its identity."""
    own = vars(cls).get("__dataclass_params__")
    if own is None or not own.frozen:
        raise UserError(
            f"the fields of task {cls.__name__} are not part of its identity; write @dataclass(frozen=True) above it"
        )


def check_split(split: str) -> None:
    """Raise UserError unless `split` is one of SPLITS."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
