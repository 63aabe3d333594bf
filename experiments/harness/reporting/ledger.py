"""The ledger of claims: every claim of the suite with the result of each scale, or "not built"."""

import csv
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.harness.experiment import EXPERIMENTS_DIR, Experiment, discover
from experiments.harness.reporting.claims import VERDICTS, Claim
from experiments.harness.reporting.outputs import committed_claims
from synth.commands.command_line import one_line
from synth.errors import UserError

INDEX_PATH = Path(__file__).with_name("claims_index.csv")
PART_TITLES = {
    "1": "Part 1: context-free grammars",
    "2": "Part 2: grade-school mathematics",
    "3": "Part 3: knowledge",
    "4": "Part 4: architecture",
    "B": "Background: language-model theory and the cost of attention",
}
LedgerLine = tuple["IndexEntry", Claim, Experiment | None]  # the experiment that made the claim; None for "not built"
HEADER = """# Claims

Written by `python -m experiments claims --write` from the tables beside it; do not edit.
Each line holds a paper's claim against what was measured here. The interval is Student's 95% interval over n seeds.
The verdict comes from a threshold that stands in the experiment: *reproduced* when the whole interval lies on the
claimed side of it, *contradicted* when it lies wholly on the other, *undecided* in between, *not testable here* where
the scale is too small for the claim to show, *not built* where there is no result yet.
"""


@dataclass(frozen=True)
class IndexEntry:
    """One row of claims_index.csv: number, words and paper's number of a claim, what measures it, and in which
    experiment."""

    id: str
    claim: str
    paper: str
    measured_by: str
    exp: str


@cache
def claims_index() -> tuple[IndexEntry, ...]:
    """All rows of claims_index.csv, ordered by number."""
    with open(INDEX_PATH, newline="", encoding="utf-8") as handle:
        entries = (IndexEntry(**row) for row in csv.DictReader(handle))
        return tuple(sorted(entries, key=lambda entry: _sort_key(entry.id)))


def _sort_key(number: str) -> tuple[str, int]:
    part, _, rest = number.partition(".")
    return part, int(rest)


def entry_for(claim: Claim, experiment: Experiment) -> IndexEntry:
    """The index entry of an experiment's claim. Raises UserError if there is none."""
    for entry in claims_index():
        if entry.id == claim.id:
            return entry
    raise UserError(f"{experiment.path} makes claim {claim.id!r}, which {INDEX_PATH.name} lacks; add it there")


def build_ledger(results_dir: Path, folder: Path = EXPERIMENTS_DIR) -> list[LedgerLine]:
    """All claims in order, each with its results or one "not built" line. Raises UserError for a claim without an index
    entry."""
    found: dict[str, list[LedgerLine]] = {}
    for experiment in discover(folder):
        for claim in committed_claims(experiment, results_dir):
            found.setdefault(claim.id, []).append((entry_for(claim, experiment), claim, experiment))
    return [line for entry in claims_index() for line in found.get(entry.id) or [_not_built(entry)]]


def _not_built(entry: IndexEntry) -> LedgerLine:
    return entry, Claim(entry.id, entry.claim, exp=entry.exp, paper=entry.paper, verdict="not built"), None


def to_json_lines(results_dir: Path, folder: Path = EXPERIMENTS_DIR) -> Iterator[str]:
    """The ledger as JSON lines: id, exp, scale, value, low, high, n, paper, verdict; null for missing values."""
    for _, claim, _ in build_ledger(results_dir, folder):
        yield json.dumps({key: None if value == "" else value for key, value in claim.to_dict().items()})


def to_markdown(results_dir: Path, folder: Path = EXPERIMENTS_DIR) -> str:
    """The text of results/README.md, determined by the committed tables."""
    lines = build_ledger(results_dir, folder)
    counts = Counter(str(claim.verdict) for _, claim, _ in lines)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    parts = [HEADER, f"{len(claims_index())} claims, {len(lines)} lines: {summary}.\n"]
    for key, title in PART_TITLES.items():
        parts.append(f"## {title}\n")
        parts.append("| id | claim | exp | scale | paper | ours | 95% interval | n | threshold | verdict |")
        parts.append("|---|---|---|---|---|---|---|---|---|---|")
        parts += [_markdown_row(*line) for line in lines if line[0].id.startswith(f"{key}.")]
        parts.append("")
    return "\n".join(parts)


def _markdown_row(entry: IndexEntry, claim: Claim, experiment: Experiment | None) -> str:
    link = f"[{claim.exp}]({experiment.name}/{claim.scale}/figure.png)" if experiment else claim.exp
    words = entry.claim if claim.statement == entry.claim else f"{entry.claim}: *{claim.statement}*"
    limits = "" if claim.low is None else f"{_format_number(claim.low)} to {_format_number(claim.high)}"
    cells = [entry.id, words, link, claim.scale, _format_number(claim.paper), _format_number(claim.value), limits]
    cells += ["" if claim.n is None else str(claim.n), claim.threshold, claim.verdict]
    return "| " + " | ".join(map(_escape_cell, cells)) + " |"


def _escape_cell(text: str) -> str:
    """Text, possibly from a table, escaped so that it stays in its cell and is no HTML."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _format_number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def to_text(results_dir: Path, folder: Path = EXPERIMENTS_DIR) -> str:
    """The ledger for a terminal, one line a result."""
    rows = [("id", "exp", "scale", "paper", "ours", "interval", "n", "verdict", "what")]
    for entry, claim, _ in build_ledger(results_dir, folder):
        limits = "" if claim.low is None else f"{_format_number(claim.low)}..{_format_number(claim.high)}"
        n = "" if claim.n is None else str(claim.n)
        paper = textwrap.shorten(_format_number(claim.paper), 32, placeholder=" ...")
        value = _format_number(claim.value)
        what = one_line(claim.statement)  # a table may have a share in its words
        rows.append((entry.id, claim.exp, claim.scale, paper, value, limits, n, claim.verdict, what))
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[8]]) for row in rows)
