"""How large a model, and how much training, a set of facts needs: Part 3.3's law (arXiv 2404.05405) turned round.

The bits are counted as R_max counts them; the bits per parameter that a model reaches after so many exposures stand in
law.csv, each with its interval and where it comes from. No torch: a plan takes a fraction of a second.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log2
from pathlib import Path

from lm.throughput import efficiency, processor_rate
from synth.atomic_io import read_at_most
from synth.errors import UserError

LARGEST = 200_000_000  # bytes of a file of facts: some million people, and several GB while it is counted
LAW = Path(__file__).with_name("scaling_law.csv")
BIOS_NAMES = 400 * 400 * 1000
BIOS_VALUES = (12 * 28 * 200, 200, 300, 100, 263, 2)  # date, city, university, major, employer, pronoun
BIOS_TOKENS, BIOS_VOCABULARY = 80.0, 3275  # of a biography; of bioS under GPT-2's tokenizer
WINDOW = 512  # of the paper; shorter where four tellings fit a shorter one
DEPTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Holding:
    """What is to be stored. tokens: of one telling of all that is known of one subject; vocabulary: distinct tokens."""

    subjects: int
    name_bits: float
    value_bits: float
    list_bits: float
    tokens: float
    vocabulary: int

    @property
    def bits(self) -> float:
        return self.name_bits + self.value_bits + self.list_bits


@dataclass(frozen=True)
class Law:
    """Bits per parameter after `exposures` of every fact, with an interval; origin: paper, fit or guess."""

    exposures: int
    bits_per_parameter: float
    low: float
    high: float
    origin: str
    source: str


@dataclass(frozen=True)
class Shape:
    """A GPT-2 with rotary positions and tied embeddings."""

    layers: int
    width: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """As lm.count_parameters counts them: tables, matrices, biases and norms."""
        block = 12 * self.width**2 + 13 * self.width
        return self.layers * block + 2 * self.width + self.vocabulary * self.width

    def flops_per_token(self, window: float) -> float:
        """As lm.flops_per_token counts them, for training."""
        matrices = 12 * self.layers * self.width**2 + self.vocabulary * self.width
        return 6.0 * matrices + 12 * self.layers * self.width * window


@dataclass(frozen=True)
class Need:
    """What storing everything takes at one number of exposures. parameters_low..high: over the law's interval."""

    law: Law
    holding: Holding

    @property
    def parameters(self) -> float:
        return self.holding.bits / self.law.bits_per_parameter

    @property
    def parameters_low(self) -> float:
        return self.holding.bits / self.law.high

    @property
    def parameters_high(self) -> float:
        return self.holding.bits / self.law.low

    @cached_property
    def shape(self) -> Shape:
        """The model with at least that many parameters whose width is nearest to 64 times its depth."""
        fitting = [_narrowest(self.parameters, layers, self.holding.vocabulary) for layers in DEPTHS]
        return min(fitting, key=lambda shape: abs(log2(shape.width / (64 * shape.layers))))

    @property
    def tokens(self) -> float:
        return self.holding.subjects * self.holding.tokens * self.law.exposures

    @property
    def flops(self) -> float:
        return self.tokens * self.shape.flops_per_token(min(WINDOW, 4 * self.holding.tokens))

    @property
    def seconds(self) -> float:
        """Expected on one core of this machine (on as many threads as numpy was given)."""
        return self.flops / (processor_rate() * efficiency(self.shape.width))

    def row(self) -> dict[str, float | str]:
        """Everything above, json-able."""
        return {
            "exposures": self.law.exposures, "bits_per_parameter": self.law.bits_per_parameter,
            "parameters": self.parameters, "parameters_low": self.parameters_low,
            "parameters_high": self.parameters_high, "layers": self.shape.layers, "width": self.shape.width,
            "shape_parameters": self.shape.parameters, "tokens": self.tokens, "flops": self.flops,
            "seconds": self.seconds, "origin": self.law.origin, "source": self.law.source,
        }  # fmt: skip


def _narrowest(parameters: float, layers: int, vocabulary: int) -> Shape:
    """The narrowest model of this depth (a multiple of 8) with at least so many parameters."""
    low, high = 1, 1
    while Shape(layers, 8 * high, vocabulary).parameters < parameters:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        enough = Shape(layers, 8 * middle, vocabulary).parameters >= parameters
        low, high = (low, middle) if enough else (middle + 1, high)
    return Shape(layers, 8 * low, vocabulary)


def laws(path: Path = LAW) -> list[Law]:
    """The rows of the committed law, fewest exposures first."""
    with open(path, newline="") as file:
        rows = [_law(row) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda law: law.exposures)


def _law(row: Mapping[str, str]) -> Law:
    rate, low, high = (float(row[name]) for name in ("bits_per_parameter", "low", "high"))
    return Law(int(row["exposures"]), rate, low, high, row["origin"], row["source"])


def people(n: int, names: float = BIOS_NAMES, values: Sequence[int] = BIOS_VALUES, tokens: float = BIOS_TOKENS,
           vocabulary: int = BIOS_VOCABULARY) -> Holding:  # fmt: skip
    """n people with distinct names out of `names`, and one value out of each of `values`, all drawn evenly.

    Raises UserError where there are fewer names than people, or nothing to tell.
    """
    _check_finite(names=names, tokens=tokens)
    if n < 1 or n > names:
        raise UserError(f"{n} people cannot have distinct names out of {names:g}; give 1 to {names:g} people")
    if min(values) < 1 or tokens <= 0 or vocabulary < 1:
        raise UserError("values, tokens and vocabulary must be at least 1")
    return Holding(n, n * log2(names / n), n * sum(map(log2, values)), 0.0, tokens, vocabulary)


def _check_finite(**values: float | None) -> None:
    """Raise UserError for an option that is infinite or no number."""
    for name, value in values.items():
        if value is not None and not isfinite(value):
            raise UserError(f"--{name} {value} is not finite; give a number")


def facts_in(path: Path, names: float | None = None, tokens: float | None = None) -> Holding:
    """What a file of facts holds: .csv or .tsv with a header, a line a subject, its name in the first column and its
    attributes in the others; or .jsonl, a [subject, attribute, value] a line.

    Names: log2 of how many could have been made by combining the words they are made of (or of `names`), less the
    order of the subjects. Values: the entropy of each attribute's column. Lists: which combinations of a column's words
    are values at all. A token is a word; `tokens` replaces the count of a bare telling, name and all marks and values.
    Raises UserError for a file that cannot be read or holds nothing.
    """
    _check_finite(names=names, tokens=tokens)
    table = _read(path)
    if not table:
        raise UserError(f"{path} holds no facts; give a table with a header, or triples")
    columns: dict[str, list[str]] = {}
    for values in table.values():
        for attribute, value in values.items():
            columns.setdefault(attribute, []).append(value)
    n = len(table)
    pool = names or _combinations(table)
    if pool < n:
        raise UserError(f"{n} subjects cannot have distinct names out of {pool:g}; give a larger --names")
    words = {word for text in [*table, *columns] for word in text.split()}
    words |= {word for column in columns.values() for value in column for word in value.split()}
    told = sum(len(text.split()) for column in columns.values() for text in column)
    told += sum(len(name.split()) for name in table) + sum(len(column) for column in columns.values())
    entropy = sum(_entropy(column) * len(column) for column in columns.values())
    lists = sum(_list_bits(column) for column in columns.values())
    return Holding(n, n * log2(pool / n), entropy, lists, tokens or told / n + 2, len(words) + 3)


def _read(path: Path) -> dict[str, dict[str, str]]:
    """Attributes and values by subject."""
    try:
        lines = io.StringIO(read_at_most(path, LARGEST).decode(), newline="")
        triples = list(_triples(lines) if path.suffix == ".jsonl" else _cells(lines, path.suffix))
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


def _cells(lines: Iterable[str], suffix: str) -> Iterable[tuple[str, str, str]]:
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


def _combinations(names: Mapping[str, object]) -> float:
    """How many names the words of these could have made: for every length, the product over places of their words."""
    places: dict[int, list[set[str]]] = {}
    for name in names:
        words = name.split()
        for place, word in zip(places.setdefault(len(words), [set() for _ in words]), words, strict=True):
            place.add(word)
    return sum(2 ** sum(log2(len(place)) for place in places[length]) for length in places)


def _entropy(column: Sequence[str]) -> float:
    """Bits of one value; log2 of the number of values where all are equally frequent."""
    return sum(count / len(column) * log2(len(column) / count) for count in Counter(column).values())


def _list_bits(column: Sequence[str]) -> float:
    """D log2(T^L / D) with words for symbols; 0 where every value is one word, as words stand in the vocabulary."""
    values = [value.split() for value in set(column)]
    alphabet = len({word for value in values for word in value})
    length = sum(map(len, values)) / len(values)
    return len(values) * max(0.0, length * log2(max(alphabet, 1)) - log2(len(values)))
