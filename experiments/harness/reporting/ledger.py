"""The ledger of claims: every claim of the suite, with every scale at which it was measured, or "not built"."""

import csv
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from experiments.harness.experiment import FOLDER, Experiment, committed_claims, discover
from experiments.harness.reporting.claims import VERDICTS, Claim
from synth.commands.command_line import one_line
from synth.errors import UserError

INDEX = Path(__file__).with_name("claims_index.csv")
PARTS = {
    "1": "Part 1: context-free grammars",
    "2": "Part 2: grade-school mathematics",
    "3": "Part 3: knowledge",
    "4": "Part 4: architecture",
    "B": "Background: language-model theory and the cost of attention",
}
Line = tuple["Entry", Claim, Experiment | None]  # the experiment that made the claim; None for "not built"
HEAD = """# Claims

Written by `python -m experiments claims --write` from the tables beside it; do not edit.
Each line holds a paper's claim against what was measured here. The interval is Student's 95% interval over n seeds.
The verdict comes from a threshold that stands in the experiment: *reproduced* when the whole interval lies on the
claimed side of it, *contradicted* when it lies wholly on the other, *undecided* in between, *not testable here* where
the scale is too small for the claim to show, *not built* where there is no result yet.
"""


@dataclass(frozen=True)
class Entry:
    """One claim of the suite: its number, its words, the paper's number, what is measured, the experiment."""

    id: str
    claim: str
    paper: str
    measured_by: str
    exp: str


@cache
def index() -> tuple[Entry, ...]:
    """Every claim of the suite, in order."""
    with open(INDEX, newline="", encoding="utf-8") as handle:
        entries = (Entry(**row) for row in csv.DictReader(handle))
        return tuple(sorted(entries, key=lambda entry: _order(entry.id)))


def _order(number: str) -> tuple[str, int]:
    part, _, rest = number.partition(".")
    return part, int(rest)


def entry_of(claim: Claim, experiment: Experiment) -> Entry:
    """The index's entry of an experiment's claim. Raises UserError when there is none."""
    for entry in index():
        if entry.id == claim.id:
            return entry
    raise UserError(f"{experiment.path} makes claim {claim.id!r}, which {INDEX.name} lacks; add it there")


def ledger(results: Path, folder: Path = FOLDER) -> list[Line]:
    """Every claim with each of its results, at least one line each. Raises UserError on a claim that has no entry."""
    found: dict[str, list[Line]] = {}
    for experiment in discover(folder):
        for claim in committed_claims(experiment, results):
            found.setdefault(claim.id, []).append((entry_of(claim, experiment), claim, experiment))
    return [line for entry in index() for line in found.get(entry.id) or [_not_built(entry)]]


def _not_built(entry: Entry) -> Line:
    return entry, Claim(entry.id, entry.claim, exp=entry.exp, paper=entry.paper, verdict="not built"), None


def json_lines(results: Path, folder: Path = FOLDER) -> Iterator[str]:
    """One object a line: id, exp, scale, value, low, high, n, paper, verdict; null where there is none."""
    for _, claim, _ in ledger(results, folder):
        yield json.dumps({key: None if value == "" else value for key, value in claim.record().items()})


def markdown(results: Path, folder: Path = FOLDER) -> str:
    """The text of results/README.md; the same for the same tables."""
    lines = ledger(results, folder)
    counts = Counter(str(claim.verdict) for _, claim, _ in lines)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    parts = [HEAD, f"{len(index())} claims, {len(lines)} lines: {summary}.\n"]
    for key, title in PARTS.items():
        parts.append(f"## {title}\n")
        parts.append("| id | claim | exp | scale | paper | ours | 95% interval | n | threshold | verdict |")
        parts.append("|---|---|---|---|---|---|---|---|---|---|")
        parts += [_line(*line) for line in lines if line[0].id.startswith(f"{key}.")]
        parts.append("")
    return "\n".join(parts)


def _line(entry: Entry, claim: Claim, experiment: Experiment | None) -> str:
    link = f"[{claim.exp}]({experiment.name}/{claim.scale}/figure.png)" if experiment else claim.exp
    words = entry.claim if claim.statement == entry.claim else f"{entry.claim}: *{claim.statement}*"
    limits = "" if claim.low is None else f"{_number(claim.low)} to {_number(claim.high)}"
    cells = [entry.id, words, link, claim.scale, _number(claim.paper), _number(claim.value), limits]
    cells += ["" if claim.n is None else str(claim.n), claim.threshold, claim.verdict]
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """A text, some of whose words may come from a table, that stays in its cell and is no HTML."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def text(results: Path, folder: Path = FOLDER) -> str:
    """The ledger for a terminal, a line a result."""
    rows = [("id", "exp", "scale", "paper", "ours", "interval", "n", "verdict", "what")]
    for entry, claim, _ in ledger(results, folder):
        limits = "" if claim.low is None else f"{_number(claim.low)}..{_number(claim.high)}"
        n = "" if claim.n is None else str(claim.n)
        paper = textwrap.shorten(_number(claim.paper), 32, placeholder=" ...")
        value = _number(claim.value)
        what = one_line(claim.statement)  # a table may have a share in its words
        rows.append((entry.id, claim.exp, claim.scale, paper, value, limits, n, claim.verdict, what))
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[8]]) for row in rows)
