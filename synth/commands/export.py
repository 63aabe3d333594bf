"""Documents for people who train elsewhere: parquet, json lines or plain text, with the vocabulary beside them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from synth.atomic_io import replacing
from synth.corpus import BLOCK, Corpus
from synth.errors import UserError
from synth.task import Block, Task

Format = Literal["parquet", "jsonl", "txt"]


@contextmanager
def output(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` that takes its place when the block ends well (synth.atomic_io.replacing).

    Raises UserError when the disk is full or the folder cannot be written; what was there before stays.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; free space or choose another place") from error


def rows(block: Block, labels: bool) -> Iterator[dict[str, Any]]:
    """One json-able row a document: tokens (ids), loss_mask, prompt_length, its slices and, if asked, its labels."""
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
    task: Task, n: int, to: Format, out: Path, seed: int = 0, split: str = "train", labels: bool = False
) -> list[Path]:
    """Write the first n documents of a split and `<out>.vocab.json`; returns both paths.

    parquet and jsonl hold token ids; txt holds symbol names, one document a line, special tokens left out.
    """
    from tqdm import tqdm

    if n < 1:
        raise UserError(f"--n {n} asks for no documents; give at least 1")
    corpus = Corpus(task, seed, split)
    starts = tqdm(range(0, n, BLOCK), desc=f"export {out.name}", unit="block", disable=None)
    blocks = (corpus.documents(start, min(start + BLOCK, n), labels) for start in starts)
    with output(out) as partial:
        if to == "parquet":
            _write_parquet(blocks, partial, labels)
        else:
            with partial.open("w") as file:
                for block in blocks:
                    lines = map(json.dumps, rows(block, labels)) if to == "jsonl" else _texts(task, block)
                    file.writelines(f"{line}\n" for line in lines)
    vocabulary = out.with_name(out.name + ".vocab.json")
    with output(vocabulary) as partial:
        partial.write_text(json.dumps({name: i for i, name in enumerate(corpus.vocab.names)}) + "\n")
    return [out, vocabulary]


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
            table = pa.Table.from_pylist(list(rows(block, labels)))
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
