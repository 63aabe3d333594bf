"""The ledger: one verdict for every claim of the papers, then the lines of every experiment."""

import csv
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from experiments.harness.experiment import EXPERIMENTS_DIR, Experiment, discover
from experiments.harness.reporting.claims import DECIDED, VERDICTS, Claim
from experiments.harness.reporting.outputs import committed_claims
from experiments.harness.run import SCALES
from synth.commands.command_line import one_line
from synth.errors import UserError

INDEX_PATH = Path(__file__).with_name("claims_index.csv")
PART_TITLES = {
    "1": "Part 1: context-free grammars",
    "2": "Part 2: grade-school mathematics",
    "3": "Part 3: knowledge",
    "4": "Part 4: architecture",
    "B": "Background: language-model theory and the cost of attention",
    "R": "Related work",
}
HEADER = """# Claims

Written by `python -m experiments claims --write` from the tables beside it; do not edit.

One row a claim: what the paper says, the one line that decides it, and the verdict at the largest scale that was run.
*Reproduced*: the whole interval lies on the claimed side of a threshold that is written in the experiment;
*contradicted*: it lies wholly on the other side; *undecided*: it holds the threshold. *Not testable*: a condition
without which the claim cannot be decided does not hold, such as a base model that has learned its task; *not run* and
*not built* say what is missing. A row counts what the further lines of its claim found. Intervals leave out 5% on
either side, over n seeds ([how they are made](../docs/statistics.md)). The lines of every experiment follow, findings
against the papers included.

Thresholds come from the papers' statements. For the tables of scale laptop, which are older, the primary lines and the
gates were chosen when the numbers had been seen; gates can only withhold a verdict.
"""
FIRST_TABLE = (
    "id", "claim", "measured here", "paper", "ours", "interval", "n", "scale", "reproduced if", "verdict", "figure",
)  # fmt: skip
LINES_TABLE = ("id", "measured", "paper", "ours", "interval", "n", "reproduced if", "verdict")


@dataclass(frozen=True)
class IndexEntry:
    """One row of claims_index.csv: number, words and paper's number of a claim, what measures it, and in which
    experiment."""

    id: str
    claim: str
    paper: str
    measured_by: str
    exp: str


@dataclass(frozen=True)
class Ledger:
    """verdicts: for every claim of the papers its entry, the line that decides it, and the experiment that made it
    (None if none has); lines: all lines by experiment, in the order in which they were made; broken: the experiments
    whose tables cannot be judged, and why."""

    verdicts: tuple[tuple[IndexEntry, Claim, Experiment | None], ...]
    lines: tuple[tuple[Experiment, tuple[Claim, ...]], ...]
    broken: tuple[tuple[Experiment, str], ...] = ()


@cache
def claims_index() -> tuple[IndexEntry, ...]:
    """All rows of claims_index.csv, ordered by number."""
    with open(INDEX_PATH, newline="", encoding="utf-8") as handle:
        entries = (IndexEntry(**row) for row in csv.DictReader(handle))
        return tuple(sorted(entries, key=lambda entry: _sort_key(entry.id)))


def _sort_key(number: str) -> tuple[str, int]:
    part, _, rest = number.partition(".")
    return part, int(rest)


def is_paper_claim(id: str) -> bool:
    """Whether an id is that of a paper's claim ("3.14"); an experiment may make claims of its own under any other."""
    part, dot, number = id.partition(".")
    return part in PART_TITLES and bool(dot) and number.isdigit()


def check_claims(claims: Sequence[Claim], experiment: Experiment) -> None:
    """Raise UserError for a paper's claim that the index lacks, and for one with several primary lines, or none, at a
    scale."""
    known = {entry.id: entry for entry in claims_index()}
    for id in dict.fromkeys(claim.id for claim in claims if is_paper_claim(claim.id)):
        if id not in known:
            problem = f"{experiment.path} makes claim {id!r}, which {INDEX_PATH.name} lacks"
            raise UserError(f"{problem}; add it there, or name a claim of your own otherwise, such as 'mine'")
        for scale in dict.fromkeys(claim.scale for claim in claims if claim.id == id):
            n = sum(claim.primary for claim in claims if claim.id == id and claim.scale == scale)
            measured = scale != "smoke" and any(
                claim.verdict != "not run" for claim in claims if claim.id == id and claim.scale == scale
            )
            if (n > 1 or (n == 0 and measured)) and known[id].exp == experiment.number:
                problem = f"{experiment.path} has {n} primary lines of claim {id} at scale {scale}"
                raise UserError(f"{problem}; give primary=True to the one that decides it")


def build_ledger(results_dir: Path, folder: Path = EXPERIMENTS_DIR) -> Ledger:
    """The verdict on every claim, and all lines. An experiment whose table cannot be judged, being damaged or of an
    older version, is marked and ends nobody else's. Raises UserError as `check_claims`."""
    lines, broken = [], []
    for experiment in discover(folder):
        try:
            claims = tuple(committed_claims(experiment, results_dir))
        except UserError as error:
            broken.append((experiment, one_line(str(error))))
            continue
        check_claims(claims, experiment)
        lines.append((experiment, claims))
    made = {experiment.number: (experiment, claims) for experiment, claims in lines if experiment.numbered}
    verdicts = [_verdict(entry, *made.get(entry.exp, (None, ()))) for entry in claims_index()]
    reasons = {experiment.number: reason for experiment, reason in broken}
    marked = [(entry, _mark(claim, reasons.get(entry.exp)), experiment) for entry, claim, experiment in verdicts]
    return Ledger(tuple(marked), tuple((experiment, claims) for experiment, claims in lines if claims), tuple(broken))


def _mark(claim: Claim, reason: str | None) -> Claim:
    return claim if reason is None else replace(claim, verdict="not run", note=f"its table cannot be judged: {reason}")


def _verdict(
    entry: IndexEntry, experiment: Experiment | None, claims: Sequence[Claim]
) -> tuple[IndexEntry, Claim, Experiment | None]:
    """The primary line of the largest scale at which it was run; else a line that says what is missing."""
    primary = [claim for claim in claims if claim.id == entry.id and claim.primary and claim.verdict != "not run"]
    if primary:
        return entry, max(primary, key=lambda claim: SCALES.index(claim.scale)), experiment
    built = any(claim.id == entry.id for claim in claims) or (experiment is not None and experiment.mentions(entry.id))
    missing = "not run" if built else "not built"
    empty = Claim(entry.id, "", exp=entry.exp, paper=entry.paper, verdict=missing, primary=True)  # type: ignore[arg-type]
    return entry, empty, None


# ---- as text ---------------------------------------------------------------------------------------------------
def to_json_lines(results_dir: Path, folder: Path = EXPERIMENTS_DIR, chosen: Sequence[str] = ()) -> Iterator[str]:
    """The ledger as JSON lines, null for missing values: all lines, then the claims that were not run or built.

    chosen: numbers of experiments, all if empty.
    """
    ledger = build_ledger(results_dir, folder)
    found = [claim for _, claims in ledger.lines for claim in claims]
    found += [claim for _, claim, experiment in ledger.verdicts if experiment is None]
    for claim in found:
        if not chosen or claim.exp in chosen:
            yield json.dumps({key: None if value == "" else value for key, value in claim.to_dict().items()})


def to_markdown(results_dir: Path, folder: Path = EXPERIMENTS_DIR) -> str:
    """The text of results/README.md, determined by the committed tables."""
    ledger = build_ledger(results_dir, folder)
    counts = Counter(str(claim.verdict) for _, claim, _ in ledger.verdicts)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    parts = [HEADER, f"{len(ledger.verdicts)} claims: {summary}.{_withheld(ledger)}\n"]
    lines = [claim for _, claims in ledger.lines for claim in claims]
    for key, title in PART_TITLES.items():
        rows = [_first_row(*found, lines) for found in ledger.verdicts if found[0].id.startswith(f"{key}.")]
        parts += [f"## {title}\n", *_markdown_table(FIRST_TABLE, rows)] if rows else []
    parts.append("# All lines, by experiment\n")
    parts += [f"## {experiment.number} cannot be judged: {_escape_cell(why)}\n" for experiment, why in ledger.broken]
    for experiment, claims in ledger.lines:
        for scale in dict.fromkeys(claim.scale for claim in claims):
            parts.append(f"## {experiment.number} at scale {scale}: {_escape_cell(experiment.title)}\n")
            some = [claim for claim in claims if claim.scale == scale]
            parts += [f"![]({experiment.name}/{scale}/figure.png)\n"]
            parts += _markdown_table(LINES_TABLE, [_line_row(claim) for claim in some])
    return "\n".join(parts)


def _withheld(ledger: Ledger) -> str:
    """What the verdicts that gates withhold would be."""
    counts = Counter(str(claim.without_gate) for _, claim, _ in ledger.verdicts if claim.without_gate)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f" Those that are not testable would, without their gates, be {words}." if words else ""


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_escape_cell, row)) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines, ""]


def _first_row(entry: IndexEntry, claim: Claim, experiment: Experiment | None, lines: Sequence[Claim]) -> list[str]:
    link = f"[{claim.exp}]({experiment.name}/{claim.scale}/figure.png)" if experiment else claim.exp
    numbers = [entry.paper, _format_number(claim.value), _format_limits(claim), _format_count(claim), claim.scale]
    verdict = _format_verdict(claim) + (_further_lines(claim, lines) if claim.verdict in DECIDED else "")
    return [entry.id, entry.claim, claim.statement or entry.measured_by, *numbers, claim.rule, verdict, link]


def _further_lines(claim: Claim, lines: Sequence[Claim]) -> str:
    """What the other lines of the claim found at its scale; a claim with several parts may hold in some of them."""
    others = [each for each in lines if (each.id, each.exp, each.scale) == (claim.id, claim.exp, claim.scale)]
    counts = Counter(str(each.verdict) for each in others if not each.primary)
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"; further lines: {words}" if words else ""


def _line_row(claim: Claim) -> list[str]:
    id = f"**{claim.id}**" if claim.primary else claim.id
    numbers = [_format_number(claim.paper), _format_number(claim.value), _format_limits(claim), _format_count(claim)]
    return [id, claim.statement, *numbers, claim.rule, _format_verdict(claim)]


def _format_verdict(claim: Claim) -> str:
    reason = f": {claim.gate}" if claim.gate else ""
    return f"{claim.verdict}{reason}" + (f" ({claim.note})" if claim.note else "")


def _format_count(claim: Claim) -> str:
    looks = "" if claim.looks is None else f" ({claim.looks} look{'s' * (claim.looks > 1)})"
    return "" if claim.n is None else f"{claim.n}{looks}"


def _format_limits(claim: Claim, between: str = " to ") -> str:
    if claim.low is None or claim.high is None:
        return ""
    return between.join(_format_number(limit) for limit in (claim.low, claim.high))


def _escape_cell(text: str) -> str:
    """Text, possibly from a table, escaped so that it stays in its cell and is no HTML."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _format_number(value: float | str | None) -> str:
    if value in (float("inf"), float("-inf")):
        return "no limit"
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def to_text(results_dir: Path, folder: Path = EXPERIMENTS_DIR, chosen: Sequence[str] = ()) -> str:
    """The ledger for a terminal: one row a claim, or, for chosen experiments (numbers), all their lines."""
    ledger = build_ledger(results_dir, folder)
    if chosen:
        lines = [claims_text(claims) for experiment, claims in ledger.lines if experiment.number in chosen]
        lines += [f"{one.number} cannot be judged: {why}" for one, why in ledger.broken if one.number in chosen]
        return "\n\n".join(lines) or f"no table of {', '.join(chosen)}; run it first"
    rows = [_text_row(claim, entry.claim, entry.paper) for entry, claim, _ in ledger.verdicts]
    broken = "".join(f"\n{experiment.number} cannot be judged: {why}" for experiment, why in ledger.broken)
    return _align(rows) + f"\n{broken}\nThe lines of an experiment: python -m experiments claims NN"


def claims_text(claims: Sequence[Claim]) -> str:
    """The claims of an experiment for a terminal, a line each; * marks the primary ones."""
    return _align([_text_row(claim, claim.statement, _format_number(claim.paper), mark=True) for claim in claims])


def _text_row(claim: Claim, words: str, paper: str, mark: bool = False) -> tuple[str, ...]:
    verdict = textwrap.shorten(_format_verdict(claim), 60, placeholder=" ...")
    name = claim.id + ("*" if mark and claim.primary else "")
    numbers = (
        textwrap.shorten(paper, 24, placeholder=" ..."),
        _format_number(claim.value),
        _format_limits(claim, ".."),
    )
    # a table may have a share in its words
    return name, claim.exp, claim.scale, *numbers, _format_count(claim), one_line(verdict), one_line(words)


def _align(rows: Sequence[tuple[str, ...]]) -> str:
    rows = [("id", "exp", "scale", "paper", "ours", "interval", "n", "verdict", "what"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[8]]) for row in rows)
