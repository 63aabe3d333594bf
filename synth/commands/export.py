"""Exporting documents for training elsewhere: parquet, JSON lines or plain text, and the vocabulary."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from synth.atomic_io import atomic_replace
from synth.corpus import BLOCK_SIZE, Corpus
from synth.errors import UserError
from synth.task import Block, Task

Format = Literal["parquet", "jsonl", "txt"]


@contextmanager
def output(path: Path) -> Iterator[Path]:
    """synth.atomic_io.atomic_replace with UserError in place of OSError (disk full, no permission)."""
    try:
        with atomic_replace(path) as partial:
            yield partial
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; free space or choose another place") from error


def to_rows(block: Block, labels: bool) -> Iterator[dict[str, Any]]:
    """One JSON row per document: tokens (ids), loss_mask, prompt_length, slices and, optionally, labels."""
    for i in range(len(block)):
        example = block[i]
        row: dict[str, Any] = {
            "tokens": example.tokens.tolist(),
            "loss_mask": example.loss_mask.tolist(),
            "prompt_length": example.prompt_length,
            **{name: getattr(value, "item", lambda v=value: v)() for name, value in example.slices.items()},
        }
        if labels:
            row |= {name: values.tolist() for name, values in example.labels.items()}
        yield row


def export(
    task: Task, n: int, file_format: Format, path: Path, seed: int = 0, split: str = "train", labels: bool = False
) -> list[Path]:
    """Write the first n documents of a split to `path` and the vocabulary to `<path>.vocab.json`; return both paths.

    parquet and jsonl hold token ids; txt holds symbol names without special tokens, one document a line. Raises
    UserError for n < 1 or a file that cannot be written.
    """
    from tqdm import tqdm

    if n < 1:
        raise UserError(f"--num-samples {n} asks for no documents; give at least 1")
    corpus = Corpus(task, seed, split)
    starts = tqdm(range(0, n, BLOCK_SIZE), desc=f"export {path.name}", unit="block", disable=None)
    blocks = (corpus.documents(start, min(start + BLOCK_SIZE, n), labels) for start in starts)
    with output(path) as partial:
        if file_format == "parquet":
            _write_parquet(blocks, partial, labels)
        else:
            with partial.open("w") as file:
                for block in blocks:
                    lines = map(json.dumps, to_rows(block, labels)) if file_format == "jsonl" else _texts(task, block)
                    file.writelines(f"{line}\n" for line in lines)
    vocabulary = path.with_name(path.name + ".vocab.json")
    with output(vocabulary) as partial:
        partial.write_text(json.dumps({name: i for i, name in enumerate(corpus.vocab.names)}) + "\n")
    return [path, vocabulary]


def _texts(task: Task, block: Block) -> Iterator[str]:
    names, special = task.vocab().names, {0, task.vocab().eos, task.vocab().pad}
    for start, stop in zip(block.offsets, block.offsets[1:], strict=False):
        yield " ".join(names[i] for i in block.tokens[start:stop].tolist() if i not in special)


def _write_parquet(blocks: Iterator[Block], path: Path, labels: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for block in blocks:
            table = pa.Table.from_pylist(list(to_rows(block, labels)))
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
