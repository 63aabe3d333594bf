"""What a calibration prints: a line for every training, then the recommended size as code."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.atomic_io import write_text
from experiments.harness.calibration.config_text import import_lines, to_code
from experiments.harness.calibration.search import Verdict, classify_score, combine_verdicts
from experiments.harness.calibration.trials import REFERENCE, Trial
from experiments.harness.evaluation.task_metrics import TaskMetric
from experiments.harness.run import Rows, Run, run_id

SizeFields = Mapping[str, Any]
PERFECT_SCORE = 1.0  # of every share of right answers


@dataclass(frozen=True)
class Finding:
    """The result of one training.

    score, chance: shares of right answers, NaN for a training that diverged; by_difficulty: score at each difficulty;
    loss: the last training loss, nats a token; seconds: of training and evaluation together.
    """

    size: SizeFields
    architecture: str
    run: Run
    lr: float
    score: float
    chance: float
    by_difficulty: Mapping[Any, float]
    seconds: float
    loss: float
    parameters: int

    @property
    def verdict(self) -> str:
        return "diverged" if math.isnan(self.score) else classify_score(self.score, self.chance)


def finding(size: SizeFields, trial: Trial, measure: TaskMetric, rows: Rows) -> Finding:
    """The result that the rows of a trial's run hold."""
    scores, row = measure.read_score(rows), rows[0]
    loss = float("nan") if row["train_loss"] is None else row["train_loss"]
    settings = (size, trial.architecture, trial.run, trial.lr)
    return Finding(*settings, *scores, row["seconds"], loss, row["parameters"])


def format_size(size: SizeFields) -> str:
    """The fields of a size as text, such as modulus=5 ops=2."""
    return " ".join(f"{name}={value}" for name, value in size.items())


def best_by_architecture(findings: Sequence[Finding]) -> dict[str, Finding]:
    """For each architecture the finding at its best rate, among findings at one size."""
    found: dict[str, Finding] = {}
    for each in findings:
        last = found.get(each.architecture)
        if last is None or math.isnan(last.score) or each.score > last.score:
            found[each.architecture] = each
    return found


class TableWriter:
    """Prints the table as it grows, with columns wide enough for all sizes."""

    def __init__(self, sizes: Sequence[SizeFields], models: Sequence[str], write: Callable[[str], None]) -> None:
        self.size_column_width = max(4, *(len(format_size(size)) for size in sizes))
        self.model_column_width = max(map(len, models)) if len(models) > 1 else 0
        self.write = write
        self._line("size", "model", "rate", "steps", "score", "chance", "ceiling", "seconds", "loss", "verdict")

    def _line(self, size: str, model: str, *cells: str) -> None:
        head = [size.ljust(self.size_column_width)]
        if self.model_column_width:
            head.append(model.ljust(self.model_column_width))
        self.write("  ".join([*head, *(cell.rjust(7) for cell in cells[:-1]), cells[-1]]))

    def write_findings(self, findings: Sequence[Finding]) -> Verdict:
        """Print the lines of one size and return its verdict."""
        for each in findings:
            shares = (f"{number:.3f}" for number in (each.score, each.chance, PERFECT_SCORE))
            parts = ", ".join(f"{key}: {score:.2f}" for key, score in each.by_difficulty.items())
            verdict = each.verdict + (f"  ({parts})" if len(each.by_difficulty) > 1 else "")
            cells = (f"{each.lr:g}", str(each.run.steps), *shares, f"{each.seconds:.1f}", f"{each.loss:.3f}", verdict)
            self._line(format_size(each.size), each.architecture, *cells)
        best = best_by_architecture(findings).values()
        return combine_verdicts([classify_score(each.score, each.chance) for each in best])


def write_csv(path: Path, findings: Sequence[Finding]) -> None:
    """Write the table with every digit. Raises OSError."""
    text = io.StringIO()
    names = list(findings[0].size)
    columns = ["architecture", "lr", "steps", "score", "chance", "ceiling", "seconds", "loss", "verdict", "parameters"]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, *columns, "run"])
    for f in findings:
        numbers = [f.lr, f.run.steps, f.score, f.chance, PERFECT_SCORE, f.seconds, f.loss, f.verdict, f.parameters]
        table.writerow([*f.size.values(), f.architecture, *numbers, run_id(f.run)])
    write_text(path, text.getvalue())


def recommendation(findings: Sequence[Finding], sizes: Sequence[tuple[SizeFields, Verdict]]) -> str:
    """The verdict of every size, then the recommended size and its runs as code, or advice on other sizes if none is
    informative."""
    tried: dict[str, dict[str, Finding]] = {}
    for size, _ in sizes:
        if here := [each for each in findings if each.size == size]:
            tried[format_size(size)] = best_by_architecture(here)
    lines = [""]
    for size, verdict in sizes:
        name = format_size(size)
        scores = _format_scores(tried[name]) if name in tried else " (not tried)"
        lines.append(f"{name or 'the task'}: {verdict}{scores}")
    informative = [tried[format_size(size)] for size, verdict in sizes if verdict == "informative"]
    if not informative:
        return "\n".join([*lines, "", _suggest_next_sizes(sizes)])
    chosen = max(informative, key=_informativeness)
    runs = [each.run for each in chosen.values()]
    name = format_size(chosen[REFERENCE].size) or "the task as it is"
    lines += ["", f"recommended: {name}{_format_scores(chosen)}", ""]
    lines += import_lines([part for run in runs for part in (run, run.task, run.model, run.train, *run.evaluations)])
    return "\n".join([*lines, *map(run_code, runs)])


def _format_scores(chosen: Mapping[str, Finding]) -> str:
    if len(chosen) == 1:
        (only,) = chosen.values()
        return f", score {only.score:.2f} at rate {only.lr:g}"
    text = ", ".join(f"{name} {each.score:.2f} at rate {each.lr:g}" for name, each in chosen.items())
    return f", {text}, {_informativeness(chosen):.2f} apart"


def _informativeness(chosen: Mapping[str, Finding]) -> float:
    """How much a size tells: for one model, its distance from floor and ceiling; for several, how far apart they
    are."""
    scores = [-1.0 if math.isnan(each.score) else each.score for each in chosen.values()]
    chance = next(iter(chosen.values())).chance
    return max(scores) - min(scores) if len(scores) > 1 else -abs(scores[0] - (chance + PERFECT_SCORE) / 2)


def run_code(run: Run) -> str:
    """The run as one line of an experiment, to be given a name and seeds of its own."""
    evaluations = f"({', '.join(map(to_code, run.evaluations))},)"
    return f'Run("NN_name", {to_code(run.task)}, {to_code(run.model)}, {to_code(run.train)}, {evaluations})'


def _suggest_next_sizes(sizes: Sequence[tuple[SizeFields, Verdict]]) -> str:
    """Advice when no size is informative."""
    verdicts = {verdict for _, verdict in sizes}
    if verdicts == {"floor"}:
        return "every size is at floor: vary easier sizes, or give more --seconds, or other rates with --lr"
    if verdicts == {"ceiling"}:
        return "every size is at ceiling: vary harder sizes, or give fewer --seconds"
    return "sizes go from ceiling to floor at once: vary values between them, or give other --seconds"
