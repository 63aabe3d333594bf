"""The training stream of a task: documents addressed by number, windows cut from them, exposures counted.

Document d is a pure function of (task, seed, split, d); windows are a pure function of the document stream and the
packing, whatever the batch size, so a run can stop and go on at any cursor. For a task with fixed items (people) an
epoch shows every item once in a fresh order, and a batch lists the items whose last token it trains on.
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
BLOCK = 256  # documents drawn together; part of the addressing, so changing it changes every stream
_MEANS: dict[tuple[type, str, str, int], float] = {}  # what mean_length has found


@dataclass(frozen=True)
class Cursor:
    """Where the next window begins: a document's number and the offset of a token in it.

    In a mixture (synth.mixture): the number of the window, and in `parts` where the next one of each part begins.
    """

    document: int = 0
    offset: int = 0
    parts: tuple["Cursor", ...] = ()

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Cursor":
        """The cursor that dataclasses.asdict, and then json, made this of."""
        return cls(saved["document"], saved["offset"], tuple(cls.of(part) for part in saved.get("parts", ())))


@dataclass(frozen=True)
class Batch:
    """B windows of T positions. targets[b, t] is the token after inputs[b, t].

    inputs, targets (B, T) int32; loss_mask (B, T) bool, True where the target counts; documents (B, T) int32, the
    number of the document within its row; items (n,) int64, the fixed items whose last token is a target of this batch.
    """

    inputs: np.ndarray
    targets: np.ndarray
    loss_mask: np.ndarray
    documents: np.ndarray
    items: np.ndarray


class Corpus:
    """Windows of a task's documents.

    packing "cut": documents end to end, cut into windows of `window` targets, as the papers train (Part 1, section 1.3
    of its protocol); "whole": several whole documents a row, the rest padded; "none": one document a row, padded.
    `order` seeds the epoch permutations of a task with fixed items and nothing else.

    Raises UserError when a document does not fit a row that must hold it whole.
    """

    def __init__(
        self, task: Task, seed: int, split: str = "train", window: int = 512, packing: Packing = "cut", order: int = 0
    ) -> None:
        check_split(split)
        if packing not in ("cut", "whole", "none"):
            raise UserError(f"unknown packing {packing!r}; choose cut, whole or none")
        if window < 1:
            raise UserError(f"a window of {window} tokens holds nothing; give a window of at least 1")
        self.task, self.seed, self.split, self.window, self.packing, self.order = (
            task, seed, split, window, packing, order,
        )  # fmt: skip
        self.world = task.world(seed)
        self.vocab = task.vocab()
        self.items = task.items(self.world)
        self._epoch: tuple[int, np.ndarray] | None = None
        self._blocks: OrderedDict[tuple[int, bool], Block] = OrderedDict()

    # ---- documents ---------------------------------------------------------------------------------------------
    def block(self, number: int, labels: bool = False) -> Block:
        """Documents BLOCK*number .. BLOCK*(number+1)-1."""
        key = (number, labels)
        if key not in self._blocks:
            self._blocks[key] = self._draw(number, labels)
            if len(self._blocks) > 4:
                self._blocks.popitem(last=False)
        return self._blocks[key]

    def _draw(self, number: int, labels: bool) -> Block:
        if self.items is None:
            block = self.task.sample_block(self.world, rng(*self._stream, number), self.split, BLOCK, labels)
        else:
            first = number * BLOCK
            epochs = np.arange(first, first + BLOCK) // self.items
            block = self.about(self.items_of(first, first + BLOCK), epochs, labels)
        if len(block) != BLOCK:
            raise UserError(f"task {self.task.name}: {len(block)} documents came where {BLOCK} were asked")
        return block

    @property
    def _stream(self) -> tuple[Any, ...]:
        return "documents", self.task.key, self.seed, self.split

    def about(self, items: np.ndarray, epochs: np.ndarray, labels: bool = False) -> Block:
        """The documents that tell items (n,) in epochs (n,), in this order. Only for a task with fixed items."""
        return self.task.render_block(self.world, items, epochs, self._stream, self.split, labels)

    def items_of(self, start: int, stop: int) -> np.ndarray:
        """The item (n,) int64 that each document start..stop-1 is about. Only for a task with fixed items."""
        assert self.items is not None
        parts, at = [np.zeros(0, np.int64)], start
        while at < stop:
            epoch, inside = divmod(at, self.items)
            parts.append(self._permutation(epoch)[inside : inside + stop - at])
            at += len(parts[-1])
        return np.concatenate(parts)

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._epoch is None or self._epoch[0] != epoch:
            order = rng("order", self.task.key, self.order, self.split, epoch).permutation(self.items or 0)
            self._epoch = (epoch, order)
        return self._epoch[1]

    def documents(self, start: int, stop: int, labels: bool = False) -> Block:
        """Documents start..stop-1 as one Block; any range gives the same bytes as part of any other range."""
        parts = []
        for number in range(start // BLOCK, max(-(-stop // BLOCK), start // BLOCK + 1)):
            block, first = self.block(number, labels), number * BLOCK
            parts.append(_cut(block, max(start - first, 0), min(stop - first, BLOCK)))
        return _join(parts)

    # ---- windows -----------------------------------------------------------------------------------------------
    def start(self) -> Cursor:
        """The cursor of the first window."""
        return Cursor()

    def batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        """The next `rows` windows, and the cursor after them."""
        return self._cut_batch(cursor, rows) if self.packing == "cut" else self._whole_batch(cursor, rows)

    def _cut_batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        need = rows * self.window + 1  # windows overlap by one token, so that no target is lost at a cut
        tokens, mask, numbers = [], [], []
        have, document, offset = 0, cursor.document, cursor.offset
        while have < need:
            number, inside = divmod(document, BLOCK)
            block = self.block(number)
            begin = int(block.offsets[inside]) + offset
            tokens.append(block.tokens[begin:])
            mask.append(block.loss_mask[begin:])
            numbers.append(np.repeat(np.arange(document, (number + 1) * BLOCK), _lengths_from(block, inside, offset)))
            have += len(tokens[-1])
            document, offset = (number + 1) * BLOCK, 0
        flat, kept, owner = (np.concatenate(part)[:need] for part in (tokens, mask, numbers))
        after = self._cursor_at(cursor, owner, rows * self.window)
        shape = (rows, self.window)
        owners = owner[:-1].reshape(shape)
        batch = Batch(
            flat[:-1].reshape(shape),
            flat[1:].reshape(shape),
            kept[1:].reshape(shape),
            (owners - owners[:, :1]).astype(np.int32),
            self._ended(cursor, owner),
        )
        return batch, after

    def _cursor_at(self, cursor: Cursor, owner: np.ndarray, position: int) -> Cursor:
        document = int(owner[position])
        first = int(np.searchsorted(owner, document))
        return Cursor(document, position - first + (cursor.offset if document == cursor.document else 0))

    def _ended(self, cursor: Cursor, owner: np.ndarray) -> np.ndarray:
        """Items of the documents whose last token is among the targets owner[1:]."""
        if self.items is None:
            return np.zeros(0, np.int64)
        last = int(owner[-1])
        number, inside = divmod(last, BLOCK)
        seen = int((owner == last).sum()) + (cursor.offset if last == cursor.document else 0)
        stop = last + (seen == self.block(number).lengths[inside])
        begin = cursor.document
        if cursor.offset == self.block(begin // BLOCK).lengths[begin % BLOCK] - 1:
            begin += 1  # its last token was the last target of the batch before
        return self.items_of(begin, stop) if stop > begin else np.zeros(0, np.int64)

    def _whole_batch(self, cursor: Cursor, rows: int) -> tuple[Batch, Cursor]:
        width = self.window + 1
        block, firsts = self._rows(cursor.document, rows)
        self._check_lengths(cursor.document, block)
        row = np.repeat(np.arange(rows), np.diff(firsts))
        first = firsts[row]  # of the row that a document is in
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
        items = self.items_of(cursor.document, stop) if self.items is not None else np.zeros(0, np.int64)
        return Batch(tokens[:, :-1], tokens[:, 1:], mask[:, 1:], owner[:, :-1], items), Cursor(stop, 0)

    def _rows(self, document: int, rows: int) -> tuple[Block, np.ndarray]:
        """The documents from `document` on that fill `rows` rows, and how many are before each row and in all."""
        if self.packing == "none":
            return self.documents(document, document + rows), np.arange(rows + 1)
        block, firsts = self.documents(document, (document // BLOCK + 1) * BLOCK), [0]
        while len(firsts) <= rows:
            limit = block.offsets[firsts[-1]] + self.window + 1
            fit = int(np.searchsorted(block.offsets, limit, "right")) - 1
            if fit == len(block):  # the documents after it may fit too
                block = _join([block, self.block((document + fit) // BLOCK)])
            else:
                firsts.append(max(fit, firsts[-1] + 1))  # one that is too long has a row too, until it is refused
        return _cut(block, 0, firsts[-1]), np.array(firsts)

    def _check_lengths(self, document: int, block: Block) -> None:
        """Raise UserError when one of the documents from `document` on does not fit a row."""
        longer = np.flatnonzero(block.lengths > self.window + 1)
        if len(longer):
            length = int(block.lengths[longer[0]])
            raise UserError(
                f"document {document + int(longer[0])} of {self.task.name} has {length} tokens and a row holds "
                f"{self.window + 1}; use a window of at least {length - 1} or packing cut"
            )


def mean_length(task: Any, split: str = "train", documents: int = 64) -> float:
    """Mean tokens of a document, from some of few people: they are as long, and a world of millions takes a minute."""
    few = replace(task, people=min(task.people, 256)) if hasattr(task, "people") else task
    asked = type(few), few.key, split, documents
    if asked not in _MEANS:  # planning asks for the same many times
        _MEANS[asked] = float(Corpus(few, 0, split).documents(0, documents).lengths.mean())
    return _MEANS[asked]


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
