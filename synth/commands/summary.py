"""Statistics of a data set, to be read before training: lengths, difficulty, duplicates, overlap, token use."""

from typing import Any

import numpy as np

from synth.corpus import Corpus
from synth.identity import digest
from synth.task import Block, Example, Task

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def document_bytes(block: Block) -> list[bytes]:
    """The token bytes of each document, for comparing documents."""
    return [document.tobytes() for document in block.documents]


def summarize(task: Task, seed: int, n: int, split: str = "train") -> dict[str, Any]:
    """Statistics of the first n documents of a split, as JSON values.

    "duplicates": share of documents that repeat an earlier one; "overlap": share of the first n documents of test (for
    test: of train) that also occur in the split.
    """
    corpus = Corpus(task, seed, split)
    block = corpus.documents(0, n)
    texts = document_bytes(block)
    other = "test" if split != "test" else "train"
    others = document_bytes(Corpus(task, seed, other).documents(0, n))
    distinct, used = set(texts), np.bincount(block.tokens, minlength=corpus.vocab.size)
    return {
        "documents": n,
        "tokens": int(block.offsets[-1]),
        "targets": float(block.loss_mask.mean()),
        "length": _percentiles(block.lengths),
        "prompt": _percentiles(block.prompt_lengths),
        "slices": {name: _column(values) for name, values in block.slices.items()},
        "duplicates": 1 - len(distinct) / n,
        "overlap": float(np.mean([text in distinct for text in others])) if distinct else 0.0,
        "overlap_with": other,
        "tokens_used": {name: int(count) for name, count in zip(corpus.vocab.names, used, strict=True)},
        "digest": digest([text.hex() for text in texts], 8),
        "floors": task.floors(corpus.world),
        "items": corpus.num_items,
        "statistics": task.statistics(corpus.world, block),
    }


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {str(p): float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def _column(values: np.ndarray) -> dict[str, Any]:
    """Percentiles and mean of a numeric column with more than 12 values, else the count of each value."""
    distinct, counts = np.unique(values, return_counts=True)
    if values.dtype.kind in "iuf" and len(distinct) > 12:
        return {"percentiles": _percentiles(values), "mean": float(values.mean())}
    return {"counts": {str(v): int(c) for v, c in zip(distinct, counts, strict=True)}}


def format_example(task: Task, example: Example, max_tokens: int = 64) -> str:
    """A document as two aligned lines: tokens, and under each "^" if it is a target of the loss ("|" ends the prompt).

    If it has more than max_tokens tokens, the middle is left out.
    """
    names, length = task.vocab().decode(example.tokens), len(example.tokens)
    marks = ["^" if trained else "." for trained in example.loss_mask]
    marks[example.prompt_length - 1] += "|"
    shown = list(zip(names, marks, strict=True))
    if length > max_tokens:
        half = max_tokens // 2
        shown = [*shown[:half], (f"... {length - 2 * half} more ...", ""), *shown[-half:]]
    widths = [max(map(len, pair)) for pair in shown]
    return "\n".join(
        " ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in zip(*shown, strict=True)
    )


def format_summary(task: Task, seed: int, n: int, split: str, num_printed: int) -> str:
    """The first `num_printed` documents and the statistics of `summarize`, as text for a terminal."""
    corpus = Corpus(task, seed, split)
    examples = corpus.documents(0, max(num_printed, 1))
    stats = summarize(task, seed, n, split)
    lines = [
        f"{task}",
        f"source: {task.citation()}",
        f"vocabulary: {corpus.vocab.size} ids, {corpus.vocab.preview()}",
        "",
    ]
    for i in range(num_printed):
        lines += [f"document {i} of {split}", format_example(task, examples[i]), ""]
    lines += [f"first {n} documents of {split}, seed {seed} (digest {stats['digest']})"]
    rows: list[tuple[str, str]] = [
        ("items", "fresh samples" if stats["items"] is None else f"{stats['items']} fixed items, each once an epoch"),
        ("tokens", f"{stats['tokens']:,}, {stats['targets']:.1%} of them targets of the loss"),
        ("length", _line(stats["length"])),
        ("prompt", _line(stats["prompt"])),
    ]
    for name, column in stats["slices"].items():
        shown = _line(column["percentiles"]) if "percentiles" in column else str(column["counts"])
        rows.append((f"slice {name}", shown))
    rows += [
        ("duplicates", f"{stats['duplicates']:.2%} of the documents repeat an earlier one"),
        ("overlap", f"{stats['overlap']:.2%} of the {stats['overlap_with']} documents also stand in {split}"),
        ("unused tokens", _names([t for t, c in stats["tokens_used"].items() if not c])),
        ("floors", ", ".join(f"{name} {value:.4g}" for name, value in stats["floors"].items())),
        *((name, f"{value:.4g}") for name, value in stats["statistics"].items()),
    ]
    return "\n".join([*lines, *(f"  {name:<23}{value}" for name, value in rows)])


def _names(tokens: list[str], most: int = 12) -> str:
    more = f" ... {len(tokens)} in all" if len(tokens) > most else ""
    return " ".join(tokens[:most]) + more or "none"


def _line(percentiles: dict[str, float]) -> str:
    return "  ".join(f"{p}%: {value:.0f}" for p, value in percentiles.items())
