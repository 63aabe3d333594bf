"""The model size and training that a set of facts needs: the inverse of Part 3.3's scaling law (arXiv 2404.05405).

Bits are counted as for R_max; scaling_law.csv holds the bits per parameter that a model stores after 100 and 1000
exposures, with interval and source. Everything but the expected time is arithmetic without torch.
"""

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, isfinite, log2
from pathlib import Path

from lm.throughput import efficiency, measure_matmul_flops
from probing.capacity.scaling_law import ScalingLawPoint
from synth.atomic_io import read_at_most
from synth.corpus import mean_length
from synth.errors import UserError
from synth.facts import log2_combinations
from synth.tasks.bios import BioS
from synth.tasks.facts import Facts

MAX_FILE_BYTES = 200_000_000  # of a file of facts: some million people, which take several GB of memory
BIOS_NAMES = 400 * 400 * 1000
BIOS_VALUES = (12 * 28 * 200, 200, 300, 100, 263, 2)  # date, city, university, major, employer, pronoun
BIOS_TOKENS, BIOS_VOCABULARY = 80.0, 3275  # of a biography; of bioS under GPT-2's tokenizer
SEQ_LEN = 512  # the paper's; shorter if four biographies are shorter
BATCH, MIN_STEPS = 48, 4000  # rows of a step, as in the paper; fewer where steps would be few, as in experiment 10
MIN_WIDTH = 16  # narrower models were seen to spend themselves on the wording of sentences
DEPTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class FactSet:
    """Information content, in bits, of the facts to be stored. name_bits, value_bits, list_bits: which names the
    subjects have, which values, and which values exist. tokens_per_subject: of one text with all facts about a
    subject."""

    subjects: int
    name_bits: float
    value_bits: float
    list_bits: float
    tokens_per_subject: float
    vocab_size: int

    @property
    def bits(self) -> float:
        return self.name_bits + self.value_bits + self.list_bits


@dataclass(frozen=True)
class GPT2Shape:
    """Depth, width and vocabulary size of a GPT-2 with rotary positions and tied embeddings."""

    layers: int
    width: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Number of parameters as lm.count_parameters counts them: embeddings, matrices, biases and norms."""
        block = 12 * self.width**2 + 13 * self.width
        return self.layers * block + 2 * self.width + self.vocabulary * self.width

    def flops_per_token(self, seq_len: float) -> float:
        """Training FLOPs per token as lm.flops_per_token counts them."""
        matrices = 12 * self.layers * self.width**2 + self.vocabulary * self.width
        return 6.0 * matrices + 12 * self.layers * self.width * seq_len


@dataclass(frozen=True)
class ModelRequirement:
    """The model and training needed to store the facts, at one number of exposures. parameters_low, parameters_high: at
    the ends of the interval of the scaling law."""

    point: ScalingLawPoint
    facts: FactSet
    task: "TrainingTask | None" = None
    """The task that tells these facts; None if none does."""

    @property
    def parameters(self) -> float:
        return self.facts.bits / self.point.bits_per_parameter

    @property
    def parameters_low(self) -> float:
        return self.facts.bits / self.point.high

    @property
    def parameters_high(self) -> float:
        return self.facts.bits / self.point.low

    @cached_property
    def shape(self) -> GPT2Shape:
        """The shape with at least `parameters` parameters whose width is nearest to 64 times its depth."""
        candidates = [_narrowest(self.parameters, layers, self.facts.vocab_size) for layers in DEPTHS]
        return min(candidates, key=lambda shape: abs(log2(shape.width / (64 * shape.layers))))

    @property
    def tokens(self) -> float:
        return self.facts.subjects * self.facts.tokens_per_subject * self.point.exposures

    @property
    def flops(self) -> float:
        return self.tokens * self.shape.flops_per_token(min(SEQ_LEN, 4 * self.facts.tokens_per_subject))

    @property
    def seconds(self) -> float:
        """Expected training time on one CPU core of this machine."""
        return self.flops / (measure_matmul_flops() * efficiency(self.shape.width))

    @property
    def extrapolation(self) -> float:
        """How many times beyond the measured sizes the model is; 1 within."""
        size = self.shape.parameters
        return max(1.0, size / self.point.largest, self.point.smallest / size)

    @property
    def command(self) -> str | None:
        """The `lm train` command line of this model and number of exposures; None if no task gives the facts.

        Heads, decay and schedule are those of experiment 10, whose law this is. The rate is a start and not tuned:
        1/width, through the paper's 1e-3 at width 768, and at most 1e-2, which the experiment chose for small models.
        """
        if self.task is None:
            return None
        width, tokens = self.shape.width, self.facts.subjects * self.task.document_tokens * self.point.exposures
        seq_len = min(SEQ_LEN, 8 * ceil(4 * self.task.document_tokens / 8))
        batch = max(1, min(BATCH, int(tokens / (MIN_STEPS * seq_len))))
        steps = max(1, round(tokens / (seq_len * batch)))
        heads = next(h for h in range(max(2, width // 64), 0, -1) if width % (2 * h) == 0)  # rotary turns pairs
        options = {
            "output-dir": f"runs/plan-{self.point.exposures}",
            "model.n-layers": self.shape.layers, "model.n-heads": heads, "model.d-model": width,
            "model.init-std": 0.1 if width < 64 else 0.02,
            "train.steps": steps, "train.batch-size": batch, "train.seq-len": seq_len,
            "train.lr": f"{min(1e-2, 0.768 / width):.1e}", "train.weight-decay": 0.01, "train.schedule": "cosine",
            "train.min-lr-ratio": 0.1, "train.warmup-steps": max(1, steps // 20),
        }  # fmt: skip
        words = " ".join(f"--{name} {value}" for name, value in options.items())
        return f"python -m lm train {self.task.words} {words}"

    def row(self) -> dict[str, float | str | None]:
        """All quantities as a dict for JSON."""
        return {
            "exposures": self.point.exposures, "bits_per_parameter": self.point.bits_per_parameter,
            "parameters": self.parameters, "parameters_low": self.parameters_low,
            "parameters_high": self.parameters_high, "layers": self.shape.layers, "width": self.shape.width,
            "shape_parameters": self.shape.parameters, "tokens": self.tokens, "flops": self.flops,
            "seconds": self.seconds, "origin": self.point.origin, "source": self.point.source,
            "low": self.point.low, "high": self.point.high, "extrapolation": self.extrapolation,
            "command": self.command,
        }  # fmt: skip


def _narrowest(parameters: float, layers: int, vocabulary: int) -> GPT2Shape:
    """The shape of this depth with the smallest width (16, 24, 32, ...) that has at least this many parameters."""
    low = high = MIN_WIDTH // 8
    while GPT2Shape(layers, 8 * high, vocabulary).parameters < parameters:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        enough = GPT2Shape(layers, 8 * middle, vocabulary).parameters >= parameters
        low, high = (low, middle) if enough else (middle + 1, high)
    return GPT2Shape(layers, 8 * low, vocabulary)


@dataclass(frozen=True)
class TrainingTask:
    """A task that tells the facts: its name and options for `lm train`, and the mean tokens of its documents, so that a
    training counts its exposures."""

    words: str
    document_tokens: float


def training_task(people: int | None, path: Path | None, custom: bool) -> TrainingTask | None:
    """bioS for people as in the paper, facts for a table without gaps. None for a world of other sizes, for triples and
    for a table that the task does not read."""
    if path is None:
        task = BioS(people or 1)
        return None if custom else TrainingTask(f"bioS --people {people}", mean_length(task))
    try:
        length = mean_length(Facts(str(path)))
    except UserError:
        return None
    return TrainingTask(f"facts --path {shlex.quote(str(path))}", length) if path.suffix != ".jsonl" else None


def people_fact_set(
    n: int,
    num_possible_names: float = BIOS_NAMES,
    values_per_attribute: Sequence[int] = BIOS_VALUES,
    tokens_per_subject: float = BIOS_TOKENS,
    vocab_size: int = BIOS_VOCABULARY,
) -> FactSet:
    """The facts of n people with distinct names and one value of each attribute, all uniformly distributed.

    Raises UserError for more people than names, and for values, tokens or vocabulary below 1.
    """
    _check_finite(names=num_possible_names, tokens_per_subject=tokens_per_subject)
    if n < 1 or n > num_possible_names:
        raise UserError(
            f"{n} people cannot have distinct names out of {num_possible_names:g}; "
            f"give 1 to {num_possible_names:g} people"
        )
    if min(values_per_attribute) < 1 or tokens_per_subject <= 0 or vocab_size < 1:
        raise UserError("values, tokens and vocabulary must be at least 1")
    name_bits, value_bits = n * log2(num_possible_names / n), n * sum(map(log2, values_per_attribute))
    return FactSet(n, name_bits, value_bits, 0.0, tokens_per_subject, vocab_size)


def _check_finite(**values: float | None) -> None:
    """Raise UserError for an option that is infinite or NaN."""
    for name, value in values.items():
        if value is not None and not isfinite(value):
            raise UserError(f"--{name.replace('_', '-')} {value} is not finite; give a number")


def read_fact_set(path: Path, names: float | None = None, tokens_per_subject: float | None = None) -> FactSet:
    """The facts in a file: a .csv or .tsv with a header and one line per subject, its name in the first column and its
    attributes in the others; or a .jsonl with one [subject, attribute, value] per line.

    name_bits: log2 of the number of names that the words of the names can form (or of `names`), less the order of the
    subjects. value_bits: the entropy of each attribute's column. list_bits: which combinations of a column's words are
    values. A token is a word; tokens_per_subject defaults to the length of the name, all attributes and their values.
    Raises UserError for a file that cannot be read or is empty.
    """
    _check_finite(names=names, tokens_per_subject=tokens_per_subject)
    table = _read_table(path)
    if not table:
        raise UserError(f"{path} holds no facts; give a table with a header, or triples")
    columns: dict[str, list[str]] = {}
    for values in table.values():
        for attribute, value in values.items():
            columns.setdefault(attribute, []).append(value)
    n = len(table)
    if names is not None and names < n:
        raise UserError(f"{n} subjects cannot have distinct names out of {names:g}; give a larger --names")
    log2_names = log2_combinations(tuple(name.split()) for name in table) if names is None else log2(names)
    words = {word for text in [*table, *columns] for word in text.split()}
    words |= {word for column in columns.values() for value in column for word in value.split()}
    tokens = sum(len(text.split()) for column in columns.values() for text in column)
    tokens += sum(len(name.split()) for name in table) + sum(len(column) for column in columns.values())
    entropy = sum(_entropy(column) * len(column) for column in columns.values())
    lists = sum(_list_bits(column) for column in columns.values())
    return FactSet(n, n * (log2_names - log2(n)), entropy, lists, tokens_per_subject or tokens / n + 2, len(words) + 3)


def _read_table(path: Path) -> dict[str, dict[str, str]]:
    """Attributes and values by subject."""
    try:
        lines = io.StringIO(read_at_most(path, MAX_FILE_BYTES).decode(), newline="")
        triples = list(_triples(lines) if path.suffix == ".jsonl" else _parse_csv(lines, path.suffix))
    except UserError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read facts from {path}: {error}") from error
    table: dict[str, dict[str, str]] = {}
    for subject, attribute, value in triples:
        if table.setdefault(subject, {}).setdefault(attribute, value) != value:
            raise UserError(f"{path} gives {subject!r} two values of {attribute!r}; name subjects apart")
    return table


def _triples(lines: Iterable[str]) -> Iterable[tuple[str, str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            triple = json.loads(line)
        except (ValueError, RecursionError):
            triple = None
        if not isinstance(triple, list) or len(triple) != 3:
            raise ValueError(f"line {number} is not [subject, attribute, value]")
        yield str(triple[0]), str(triple[1]), str(triple[2])


def _parse_csv(lines: Iterable[str], suffix: str) -> Iterable[tuple[str, str, str]]:
    rows = csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ",")
    header = next(rows, [])
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} cells and the header {len(header)}")
        if row[0] in seen:
            raise ValueError(f"line {number} names {row[0]!r} again; a subject has one line")
        seen.add(row[0])
        yield from ((row[0], attribute, cell) for attribute, cell in zip(header[1:], row[1:], strict=True) if cell)


def _entropy(column: Sequence[str]) -> float:
    """Entropy in bits of one value."""
    return sum(count / len(column) * log2(len(column) / count) for count in Counter(column).values())


def _list_bits(column: Sequence[str]) -> float:
    """D log2(T^L / D), words being symbols; 0 if every value is a single word, which the vocabulary has already."""
    values = [value.split() for value in set(column)]
    alphabet = len({word for value in values for word in value})
    length = sum(map(len, values)) / len(values)
    return len(values) * max(0.0, length * log2(max(alphabet, 1)) - log2(len(values)))
