"""Closed vocabularies: every task names its own symbols, and there is no unknown token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synth.errors import UserError

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"


@dataclass(frozen=True)
class Vocab:
    """K symbols of a task in a fixed order, and three special tokens.

    Ids: ``<bos>`` is 0, the symbols are 1..K in order, ``<eos>`` is K+1 and ``<pad>`` is K+2. So a grammar with the
    terminals 1, 2, 3 has the ids 1, 2, 3, as in the paper. Raises UserError for a name that occurs twice.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.index) != self.size:
            names = [*self.symbols, BOS, EOS, PAD]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"vocabulary: the symbol {twice!r} stands for two tokens; give each token its own name")

    @property
    def bos(self) -> int:
        """Id of ``<bos>``."""
        return 0

    @property
    def eos(self) -> int:
        """Id of ``<eos>``."""
        return len(self.symbols) + 1

    @property
    def pad(self) -> int:
        """Id of ``<pad>``."""
        return len(self.symbols) + 2

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.symbols) + 3

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of their ids."""
        return (BOS, *self.symbols, EOS, PAD)

    @cached_property
    def index(self) -> dict[str, int]:
        """Ids by name."""
        return {name: i for i, name in enumerate(self.names)}

    def encode(self, names: Iterable[str]) -> np.ndarray:
        """Ids (T,) int32 of names. Raises UserError with the first unknown name and its position."""
        names = list(names)
        try:
            return np.array([self.index[name] for name in names], dtype=np.int32)
        except (KeyError, TypeError):
            at = next(i for i, name in enumerate(names) if not isinstance(name, str) or name not in self.index)
            raise UserError(
                f"token {names[at]!r} at position {at} is not in the vocabulary ({self.preview()})"
            ) from None

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Names of ids (T,). Raises UserError with the first unknown id and its position."""
        self.check(ids)
        names = self.names
        return [names[i] for i in ids]

    def check(self, ids: Sequence[int] | np.ndarray) -> None:
        """Raise UserError unless every id is in 0..size-1."""
        array = np.asarray(ids)
        if array.size == 0:
            return
        bad = np.flatnonzero((array < 0) | (array >= self.size)) if array.dtype.kind in "iu" else np.arange(array.size)
        if bad.size:
            raise UserError(
                f"token {array.flat[bad[0]]!s} at position {bad[0]} is not in the vocabulary ({self.preview()})"
            )

    def preview(self, max_symbols: int = 12) -> str:
        """The first symbols as one line, for messages."""
        head = " ".join(self.symbols[:max_symbols])
        return f"symbols: {head}" + (f" ... {len(self.symbols)} in all" if len(self.symbols) > max_symbols else "")
