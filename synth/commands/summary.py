"""What a data set really holds, before anyone trains on it: lengths, difficulty, duplicates, overlap, token use.

Several replications of the papers trained for days on data whose difficulty, duplicates or leaks nobody had looked at;
these are the counts that would have shown it.
"""

from typing import Any

import numpy as np

from synth.corpus import Corpus
from synth.identity import digest
from synth.task import Block, Example, Task

PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


def fingerprints(block: Block) -> list[bytes]:
    """The bytes of each document, to compare documents by."""
    return [document.tobytes() for document in block.documents]


def measure(task: Task, seed: int, n: int, split: str = "train") -> dict[str, Any]:
    """Counts over the first n documents of a split, json-able. Overlap is the share of 'test' documents seen in it."""
    corpus = Corpus(task, seed, split)
    block = corpus.documents(0, n)
    seen = fingerprints(block)
    other = "test" if split != "test" else "train"
    others = fingerprints(Corpus(task, seed, other).documents(0, n))
    used = np.bincount(block.tokens, minlength=corpus.vocab.size)
    return {
        "documents": n,
        "tokens": int(block.offsets[-1]),
        "targets": float(block.loss_mask.mean()),
        "length": _percentiles(block.lengths),
        "prompt": _percentiles(block.prompt_lengths),
        "slices": {name: _column(values) for name, values in block.slices.items()},
        "duplicates": 1 - len(set(seen)) / n,
        "overlap": float(np.mean([text in set_ for text in others])) if (set_ := set(seen)) else 0.0,
        "overlap_with": other,
        "tokens_used": {name: int(count) for name, count in zip(corpus.vocab.names, used, strict=True)},
        "digest": digest([text.hex() for text in seen], 8),
        "floors": task.floors(corpus.world),
        "items": corpus.items,
    }


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {str(p): float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def _column(values: np.ndarray) -> dict[str, Any]:
    """Percentiles of a numeric difficulty with many values, else how often each value occurs."""
    distinct, counts = np.unique(values, return_counts=True)
    if values.dtype.kind in "iuf" and len(distinct) > 12:
        return {"percentiles": _percentiles(values), "mean": float(values.mean())}
    return {"counts": {str(v): int(c) for v, c in zip(distinct, counts, strict=True)}}


def show_example(task: Task, example: Example, most: int = 64) -> str:
    """A document as two aligned lines: tokens, and under each '^' where the loss counts it ('|' ends the prompt).

    Of one with more than `most` tokens half as many are shown from its beginning and half from its end.
    """
    names, length = task.vocab().decode(example.tokens), len(example.tokens)
    marks = ["^" if kept else "." for kept in example.loss_mask]
    marks[example.prompt_length - 1] += "|"
    shown = list(zip(names, marks, strict=True))
    if length > most:
        half = most // 2
        shown = [*shown[:half], (f"... {length - 2 * half} more ...", ""), *shown[-half:]]
    widths = [max(map(len, pair)) for pair in shown]
    return "\n".join(
        " ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in zip(*shown, strict=True)
    )


def show(task: Task, seed: int, n: int, split: str, samples: int) -> str:
    """The report as text for a terminal, after `samples` documents in full (0 for none)."""
    corpus = Corpus(task, seed, split)
    examples = corpus.documents(0, max(samples, 1))
    found = measure(task, seed, n, split)
    lines = [f"{task}", f"source: {task.cited()}", f"vocabulary: {corpus.vocab.size} ids, {corpus.vocab.shown()}", ""]
    for i in range(samples):
        lines += [f"document {i} of {split}", show_example(task, examples[i]), ""]
    lines += [f"first {n} documents of {split}, seed {seed} (digest {found['digest']})"]
    rows: list[tuple[str, str]] = [
        ("items", "fresh samples" if found["items"] is None else f"{found['items']} fixed items, each once an epoch"),
        ("tokens", f"{found['tokens']:,}, {found['targets']:.1%} of them targets of the loss"),
        ("length", _line(found["length"])),
        ("prompt", _line(found["prompt"])),
    ]
    for name, column in found["slices"].items():
        shown = _line(column["percentiles"]) if "percentiles" in column else str(column["counts"])
        rows.append((f"slice {name}", shown))
    rows += [
        ("duplicates", f"{found['duplicates']:.2%} of the documents repeat an earlier one"),
        ("overlap", f"{found['overlap']:.2%} of the {found['overlap_with']} documents also stand in {split}"),
        ("unused tokens", _names([t for t, c in found["tokens_used"].items() if not c])),
        ("floors", ", ".join(f"{name} {value:.4g}" for name, value in found["floors"].items())),
    ]
    return "\n".join([*lines, *(f"  {name:<14}{value}" for name, value in rows)])


def _names(tokens: list[str], most: int = 12) -> str:
    more = f" ... {len(tokens)} in all" if len(tokens) > most else ""
    return " ".join(tokens[:most]) + more or "none"


def _line(percentiles: dict[str, float]) -> str:
    return "  ".join(f"{p}%: {value:.0f}" for p, value in percentiles.items())
