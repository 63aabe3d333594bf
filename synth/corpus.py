"""The training stream of a task: numbered documents, windows packed from them, and counted exposures.

Document d is a pure function of (task, seed, split, d). Windows depend on the documents and the packing but not on the
batch size, so a run can resume at any cursor. For a task with fixed items (people) an epoch shows every item once in a
fresh order, and a batch lists the items whose last token it trains on.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from synth.errors import UserError
from synth.random.rng import rng
from synth.task import Block, Task, check_split

Packing = Literal["cut", "whole", "none"]
BLOCK_SIZE = 256  # documents generated together; changing it changes every stream
_MEANS: dict[tuple[type, str, str, int], float] = {}  # results of mean_length


@dataclass(frozen=True)
class Cursor:
    """Start of the next window: a document number and a token offset in it.

    In a mixture (synth.mixture), `document` is the number of the window and `parts` holds the cursor of each part.
    """

    document: int = 0
    offset: int = 0
    parts: tuple["Cursor", ...] = ()

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Cursor":
        """Inverse of dataclasses.asdict, also after a round trip through JSON."""
        return cls(saved["document"], saved["offset"], tuple(cls.from_dict(part) for part in saved.get("parts", ())))


@dataclass(frozen=True)
class Batch:
    """B windows of T positions.

    inputs, targets (B, T) int32: targets[b, t] is the token after inputs[b, t]. loss_mask (B, T) bool: whether the
    target counts in the loss. documents (B, T) int32: number of the document within its row. item_ids (n,) int64: items
    whose last token is a target of this batch.
    """

    inputs: np.ndarray
    targets: np.ndarray
    loss_mask: np.ndarray
    documents: np.ndarray
    item_ids: np.ndarray


class Corpus:
    """Windows of `seq_len` targets over a task's documents.

    packing "cut": documents are concatenated and cut into windows, as the papers train (Part 1, section 1.3 of its
    protocol); "whole": a row holds several whole documents and padding; "none": one document a row, padded.
    order_seed: seed of the epoch permutations of a task with fixed items; nothing else depends on it.
    `batch` raises UserError for a document longer than a row, unless packing is "cut".
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        split: str = "train",
        seq_len: int = 512,
        packing: Packing = "cut",
        order_seed: int = 0,
    ) -> None:
        if not isinstance(task, Task):
            raise UserError(f"a {task.name} has rows to train on and no documents of its own; ask one of its parts")
        check_split(split)
        if packing not in ("cut", "whole", "none"):
            raise UserError(f"unknown packing {packing!r}; choose cut, whole or none")
        if seq_len < 1:
            raise UserError(f"seq_len={seq_len} holds nothing; give at least 1")
        self.task, self.seed, self.split, self.seq_len, self.packing, self.order_seed = (
            task, seed, split, seq_len, packing, order_seed,
        )  # fmt: skip
        self.world = task.world(seed)
        self.vocab = task.vocab()
        self.num_items = task.num_items(self.world)
        self._epoch: tuple[int, np.ndarray] | None = None
        self._blocks: OrderedDict[tuple[int, bool], Block] = OrderedDict()

    # ---- documents ---------------------------------------------------------------------------------------------
    def block(self, number: int, labels: bool = False) -> Block:
        """Documents BLOCK_SIZE*number .. BLOCK_SIZE*(number+1)-1; the last four blocks are cached."""
        key = (number, labels)
        if key not in self._blocks:
            self._blocks[key] = self._render_block(number, labels)
            if len(self._blocks) > 4:
                self._blocks.popitem(last=False)
        return self._blocks[key]

    def _render_block(self, number: int, labels: bool) -> Block:
        if self.num_items is None:
            block = self.task.sample_block(self.world, rng(*self._stream, number), self.split, BLOCK_SIZE, labels)
        else:
            first = number * BLOCK_SIZE
            epochs = np.arange(first, first + BLOCK_SIZE) // self.num_items
            block = self.render_items(self.item_ids(first, first + BLOCK_SIZE), epochs, labels)
        if len(block) != BLOCK_SIZE:
            raise UserError(f"task {self.task.name}: {len(block)} documents came where {BLOCK_SIZE} were asked")
        return block

    @property
    def _stream(self) -> tuple[Any, ...]:
        return "documents", self.task.key, self.seed, self.split

    def render_items(self, items: np.ndarray, epochs: np.ndarray, labels: bool = False) -> Block:
        """Documents about items (n,), worded as in epochs (n,), in this order; only for a task with fixed items."""
        return self.task.render_block(self.world, items, epochs, self._stream, self.split, labels)

    def item_ids(self, start: int, stop: int) -> np.ndarray:
        """Items (stop - start,) int64 that documents start..stop-1 are about; only for a task with fixed items."""
        assert self.num_items is not None
        parts, at = [np.zeros(0, np.int64)], start
        while at < stop:
            epoch, inside = divmod(at, self.num_items)
            parts.append(self._permutation(epoch)[inside : inside + stop - at])
            at += len(parts[-1])
        return np.concatenate(parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._epoch is None or self._epoch[0] != epoch:
            order = rng("order", self.task.key, self.order_seed, self.split, epoch).permutation(self.num_items or 0)
            self._epoch = (epoch, order)
        return self._epoch[1]

    def documents(self, start: int, stop: int, labels: bool = False) -> Block:
        """Documents start..stop-1; a document has the same bytes in every range that contains it."""
        parts = []
        for number in range(start // BLOCK_SIZE, max(-(-stop // BLOCK_SIZE), start // BLOCK_SIZE + 1)):
            block, first = self.block(number, labels), number * BLOCK_SIZE
            parts.append(_cut(block, max(start - first, 0), min(stop - first, BLOCK_SIZE)))
        return _join(parts)

    # ---- windows -----------------------------------------------------------------------------------------------
    def start(self) -> Cursor:
        """The cursor of the first window."""
        return Cursor()

    def batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        """The next `rows` windows and the cursor after them."""
        return self._concatenated_batch(cursor, rows) if self.packing == "cut" else self._padded_batch(cursor, rows)

    def _concatenated_batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        need = rows * self.seq_len + 1  # windows overlap by one token, so that no target is lost at a cut
        tokens, mask, numbers = [], [], []
        have, document, offset = 0, cursor.document, cursor.offset
        while have < need:
            number, inside = divmod(document, BLOCK_SIZE)
            block = self.block(number)
            begin = int(block.offsets[inside]) + offset
            tokens.append(block.tokens[begin:])
            mask.append(block.loss_mask[begin:])
            numbers.append(
                np.repeat(np.arange(document, (number + 1) * BLOCK_SIZE), _lengths_from(block, inside, offset))
            )
            have += len(tokens[-1])
            document, offset = (number + 1) * BLOCK_SIZE, 0
        flat, trained, owner = (np.concatenate(part)[:need] for part in (tokens, mask, numbers))
        after = self._cursor_at(cursor, owner, rows * self.seq_len)
        shape = (rows, self.seq_len)
        owners = owner[:-1].reshape(shape)
        batch = Batch(
            flat[:-1].reshape(shape),
            flat[1:].reshape(shape),
            trained[1:].reshape(shape),
            (owners - owners[:, :1]).astype(np.int32),
            self._finished_items(cursor, owner),
        )
        return batch, after

    def _cursor_at(self, cursor: Cursor, owner: np.ndarray, position: int) -> Cursor:
        document = int(owner[position])
        first = int(np.searchsorted(owner, document))
        return Cursor(document, position - first + (cursor.offset if document == cursor.document else 0))

    def _finished_items(self, cursor: Cursor, owner: np.ndarray) -> np.ndarray:
        """Items of the documents whose last token is among the targets owner[1:]."""
        if self.num_items is None:
            return np.zeros(0, np.int64)
        last = int(owner[-1])
        number, inside = divmod(last, BLOCK_SIZE)
        covered = int((owner == last).sum()) + (cursor.offset if last == cursor.document else 0)
        stop = last + (covered == self.block(number).lengths[inside])
        begin = cursor.document
        if cursor.offset == self.block(begin // BLOCK_SIZE).lengths[begin % BLOCK_SIZE] - 1:
            begin += 1  # its last token was the last target of the batch before
        return self.item_ids(begin, stop) if stop > begin else np.zeros(0, np.int64)

    def _padded_batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        width = self.seq_len + 1
        block, firsts = self._fill_rows(cursor.document, rows)
        self._check_lengths(cursor.document, block)
        row = np.repeat(np.arange(rows), np.diff(firsts))
        first = firsts[row]  # first document of the row that a document is in
        lengths = block.lengths
        place = np.arange(len(block.tokens)) + np.repeat(row * width - block.offsets[first], lengths)
        tokens = np.full((rows, width), self.vocab.pad, np.int32)
        mask = np.zeros((rows, width), bool)
        owner = np.full((rows, width), -1, np.int32)
        tokens.ravel()[place] = block.tokens
        mask.ravel()[place] = block.loss_mask
        owner.ravel()[place] = np.repeat(np.arange(len(block)) - first, lengths)
        owner[owner < 0] = 1 + owner.max()  # padding is a document of its own: nothing real attends to it
        stop = cursor.document + len(block)
        items = self.item_ids(cursor.document, stop) if self.num_items is not None else np.zeros(0, np.int64)
        return Batch(tokens[:, :-1], tokens[:, 1:], mask[:, 1:], owner[:, :-1], items), Cursor(stop, 0)

    def _fill_rows(self, document: int, rows: int) -> tuple[Block, np.ndarray]:
        """Documents from `document` on that fill the rows, and how many come before each row and in all (rows+1,)."""
        if self.packing == "none":
            return self.documents(document, document + rows), np.arange(rows + 1)
        block, firsts = self.documents(document, (document // BLOCK_SIZE + 1) * BLOCK_SIZE), [0]
        while len(firsts) <= rows:
            limit = block.offsets[firsts[-1]] + self.seq_len + 1
            fit = int(np.searchsorted(block.offsets, limit, "right")) - 1
            if fit == len(block):  # the documents after it may fit too
                block = _join([block, self.block((document + fit) // BLOCK_SIZE)])
            else:
                firsts.append(max(fit, firsts[-1] + 1))  # a document too long gets a row too; _check_lengths refuses it
        return _cut(block, 0, firsts[-1]), np.array(firsts)

    def _check_lengths(self, document: int, block: Block) -> None:
        """Raise UserError when one of the documents from `document` on does not fit a row."""
        longer = np.flatnonzero(block.lengths > self.seq_len + 1)
        if len(longer):
            length = int(block.lengths[longer[0]])
            raise UserError(
                f"document {document + int(longer[0])} of {self.task.name} has {length} tokens and a row holds "
                f"{self.seq_len + 1}; use a window of at least {length - 1} or packing cut"
            )


def mean_length(task: Any, split: str = "train", documents: int = 64) -> float:
    """Mean tokens of the first documents, in a world of at most 256 people (millions take a minute to make)."""
    few = replace(task, people=min(task.people, 256)) if hasattr(task, "people") else task
    key = type(few), few.key, split, documents
    if key not in _MEANS:  # planning needs the same one many times
        _MEANS[key] = float(Corpus(few, 0, split).documents(0, documents).lengths.mean())
    return _MEANS[key]


def _lengths_from(block: Block, inside: int, offset: int) -> np.ndarray:
    lengths = block.lengths[inside:].copy()
    lengths[0] -= offset
    return lengths


def _cut(block: Block, start: int, stop: int) -> Block:
    span = slice(block.offsets[start], block.offsets[stop])
    return Block(
        block.tokens[span],
        block.offsets[start : stop + 1] - block.offsets[start],
        block.loss_mask[span],
        block.prompt_lengths[start:stop],
        {name: column[start:stop] for name, column in block.slices.items()},
        {name: column[span] for name, column in block.labels.items()},
    )


def _join(parts: list[Block]) -> Block:
    if len(parts) == 1:
        return parts[0]

    def joined(arrays: Any) -> np.ndarray:
        return np.concatenate(list(arrays))

    return Block(
        joined(p.tokens for p in parts),
        np.concatenate([[0], np.cumsum(joined(p.lengths for p in parts))]).astype(np.int64),
        joined(p.loss_mask for p in parts),
        joined(p.prompt_lengths for p in parts),
        {name: joined(p.slices[name] for p in parts) for name in parts[0].slices},
        {name: joined(p.labels[name] for p in parts) for name in parts[0].labels},
    )
