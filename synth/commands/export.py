"""Exporting documents for training elsewhere: parquet, JSON lines or plain text, and the vocabulary."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from synth.atomic_io import atomic_replace
from synth.corpus import BLOCK_SIZE, Corpus
from synth.errors import UserError
from synth.task import Task

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


def to_rows(corpus: Corpus, start: int, stop: int, labels: bool) -> Iterator[dict[str, Any]]:
    """One JSON row per document start..stop-1: index, split and seed, by which `synth score` finds it again, tokens
    (ids), loss_mask, prompt_length, slices and, optionally, labels."""
    block = corpus.documents(start, stop, labels)
    for i in range(len(block)):
        example = block[i]
        row: dict[str, Any] = {
            "index": start + i,
            "split": corpus.split,
            "seed": corpus.seed,
            "tokens": example.tokens.tolist(),
            "loss_mask": example.loss_mask.tolist(),
            "prompt_length": example.prompt_length,
            **{name: getattr(value, "item", lambda v=value: v)() for name, value in example.slices.items()},
        }
        if labels:
            labelled = {name: values.tolist() for name, values in example.labels.items()}
            row |= {f"label_{name}" if name in row else name: values for name, values in labelled.items()}
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
    spans = [(start, min(start + BLOCK_SIZE, n)) for start in starts]
    with output(path) as partial:
        if file_format == "parquet":
            _write_parquet((list(to_rows(corpus, *span, labels)) for span in spans), partial)
        else:
            with partial.open("w") as file:
                for span in spans:
                    rows = to_rows(corpus, *span, labels)
                    lines = map(json.dumps, rows) if file_format == "jsonl" else _texts(corpus, *span)
                    file.writelines(f"{line}\n" for line in lines)
    vocabulary = path.with_name(path.name + ".vocab.json")
    with output(vocabulary) as partial:
        partial.write_text(json.dumps({name: i for i, name in enumerate(corpus.vocab.names)}) + "\n")
    return [path, vocabulary]


def _texts(corpus: Corpus, start: int, stop: int) -> Iterator[str]:
    names, special = corpus.vocab.names, {corpus.vocab.bos, corpus.vocab.eos, corpus.vocab.pad}
    for document in corpus.documents(start, stop).documents:
        yield " ".join(names[i] for i in document.tolist() if i not in special)


def _write_parquet(blocks: Iterable[list[dict[str, Any]]], path: Path) -> None:
    """Write blocks of rows. Where a later block needs wider types than the first (numbers with fractions after whole
    ones, texts after numbers), what stands in the file is copied into one of these types."""
    import pyarrow as pa

    schema: Any = None
    writer: Any = None
    try:
        for rows in blocks:
            table = pa.Table.from_pylist(rows)
            wider = _wider(schema, table.schema)
            if schema is None or wider != schema:
                schema, writer = wider, _reopen(writer, path, wider)
            writer.write_table(table.cast(schema))
    finally:
        if writer is not None:
            writer.close()


def _wider(schema: Any, other: Any) -> Any:
    """The schema of types that hold the values of both schemas (pyarrow), which have the same names; None is empty."""
    import pyarrow as pa

    def wide(one: Any, two: Any) -> Any:
        if one == two or pa.types.is_null(two):
            return one
        if pa.types.is_null(one):
            return two
        if pa.types.is_list(one) and pa.types.is_list(two):
            return pa.list_(wide(one.value_type, two.value_type))
        numbers = all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in (one, two))
        return pa.float64() if numbers else pa.string()

    fields = other if schema is None else [pa.field(f.name, wide(f.type, other.field(f.name).type)) for f in schema]
    return pa.schema(fields)


def _reopen(writer: Any, path: Path, schema: Any) -> Any:
    """A writer of this schema at the path, after the rows of an earlier one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if writer is None:
        return pq.ParquetWriter(path, schema)
    writer.close()
    earlier = path.rename(path.with_name(path.name + ".narrow"))
    writer = pq.ParquetWriter(path, schema)
    for batch in pq.ParquetFile(earlier).iter_batches():
        writer.write_table(pa.Table.from_batches([batch]).cast(schema))
    earlier.unlink()
    return writer
