"""What a calibration prints: a line for every training, then which size to take, as code."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.atomic_io import write_text
from experiments.harness.calibration.config_text import code, imports
from experiments.harness.calibration.search import Verdict, judged, together
from experiments.harness.calibration.trials import REFERENCE, Trial
from experiments.harness.evaluation.task_metrics import Measure
from experiments.harness.run import Rows, Run, run_id

Named = Mapping[str, Any]
BEST = 1.0  # of every share of right answers


@dataclass(frozen=True)
class Finding:
    """What one training reached.

    score, chance: shares of right answers, NaN for a training that diverged; parts: score of every difficulty; loss:
    the last of training, nats a token; seconds: of training and evaluation together.
    """

    size: Named
    architecture: str
    run: Run
    lr: float
    score: float
    chance: float
    parts: Mapping[Any, float]
    seconds: float
    loss: float
    parameters: int

    @property
    def verdict(self) -> str:
        return "diverged" if math.isnan(self.score) else judged(self.score, self.chance)


def finding(size: Named, trial: Trial, measure: Measure, rows: Rows) -> Finding:
    """What a run's rows say."""
    score, chance, parts = measure.read(rows)
    loss = rows[0]["train_loss"]
    return Finding(
        size,
        trial.architecture,
        trial.run,
        trial.lr,
        score,
        chance,
        parts,
        rows[0]["seconds"],
        float("nan") if loss is None else loss,
        rows[0]["parameters"],
    )


def size_text(size: Named) -> str:
    """The fields of a size in words."""
    return " ".join(f"{name}={value}" for name, value in size.items())


def best(findings: Sequence[Finding]) -> dict[str, Finding]:
    """Of every architecture its best rate, among findings at one size."""
    found: dict[str, Finding] = {}
    for each in findings:
        last = found.get(each.architecture)
        if last is None or math.isnan(last.score) or each.score > last.score:
            found[each.architecture] = each
    return found


class Printer:
    """Prints the table as it grows; its columns are as wide as all sizes will need."""

    def __init__(self, sizes: Sequence[Named], models: Sequence[str], write: Callable[[str], None]) -> None:
        self.wide = max(4, *(len(size_text(size)) for size in sizes))
        self.models = max(map(len, models)) if len(models) > 1 else 0
        self.write = write
        self._line("size", "model", "rate", "steps", "score", "chance", "ceiling", "seconds", "loss", "verdict")

    def _line(self, size: str, model: str, *cells: str) -> None:
        head = [size.ljust(self.wide)] + [model.ljust(self.models)] * (self.models > 0)
        self.write("  ".join([*head, *(cell.rjust(7) for cell in cells[:-1]), cells[-1]]))

    def show(self, findings: Sequence[Finding]) -> Verdict:
        """The lines of one size, and its verdict."""
        for each in findings:
            numbers = [each.score, each.chance, BEST]
            assert each.run.train is not None
            parts = ", ".join(f"{key}: {score:.2f}" for key, score in each.parts.items())
            self._line(
                size_text(each.size),
                each.architecture,
                f"{each.lr:g}",
                str(each.run.train.steps),
                *(f"{number:.3f}" for number in numbers),
                f"{each.seconds:.1f}",
                f"{each.loss:.3f}",
                each.verdict + (f"  ({parts})" if len(each.parts) > 1 else ""),
            )
        return together([judged(each.score, each.chance) for each in best(findings).values()])


def write_csv(path: Path, findings: Sequence[Finding]) -> None:
    """The table with every digit. Raises OSError."""
    text = io.StringIO()
    names = list(findings[0].size)
    columns = ["architecture", "lr", "steps", "score", "chance", "ceiling", "seconds", "loss", "verdict", "parameters"]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, *columns, "run"])
    for f in findings:
        numbers = [f.lr, f.run.steps, f.score, f.chance, BEST, f.seconds, f.loss, f.verdict, f.parameters]
        table.writerow([*f.size.values(), f.architecture, *numbers, run_id(f.run)])
    write_text(path, text.getvalue())


def advice(findings: Sequence[Finding], sizes: Sequence[tuple[Named, Verdict]]) -> str:
    """The verdict of every size, the size to take and its runs as code; without any, what to ask for next."""
    tried: dict[str, dict[str, Finding]] = {}
    for size, _ in sizes:
        if here := [each for each in findings if each.size == size]:
            tried[size_text(size)] = best(here)
    lines = [""]
    for size, verdict in sizes:
        name = size_text(size)
        lines.append(f"{name or 'the task'}: {verdict}{_scores(tried[name]) if name in tried else ' (not tried)'}")
    informative = [tried[size_text(size)] for size, verdict in sizes if verdict == "informative"]
    if not informative:
        return "\n".join([*lines, "", _next(sizes)])
    chosen = max(informative, key=_worth)
    runs = [each.run for each in chosen.values()]
    lines += ["", f"recommended: {size_text(chosen[REFERENCE].size) or 'the task as it is'}{_scores(chosen)}", ""]
    lines += imports([part for run in runs for part in (run, run.task, run.model, run.train, *run.evaluations)])
    return "\n".join([*lines, *map(run_code, runs)])


def _scores(chosen: Mapping[str, Finding]) -> str:
    if len(chosen) == 1:
        (only,) = chosen.values()
        return f", score {only.score:.2f} at rate {only.lr:g}"
    text = ", ".join(f"{name} {each.score:.2f} at rate {each.lr:g}" for name, each in chosen.items())
    return f", {text}, {_worth(chosen):.2f} apart"


def _worth(chosen: Mapping[str, Finding]) -> float:
    """How much a size tells: of one model, how far it is from floor and ceiling; of several, how far apart they are."""
    scores = [-1.0 if math.isnan(each.score) else each.score for each in chosen.values()]
    chance = next(iter(chosen.values())).chance
    return max(scores) - min(scores) if len(scores) > 1 else -abs(scores[0] - (chance + BEST) / 2)


def run_code(run: Run) -> str:
    """The run as one line of an experiment, which gives it a name and seeds of its own."""
    evaluations = f"({', '.join(map(code, run.evaluations))},)"
    return f'Run("NN_name", {code(run.task)}, {code(run.model)}, {code(run.train)}, {evaluations})'


def _next(sizes: Sequence[tuple[Named, Verdict]]) -> str:
    """Where to look when no size is informative."""
    verdicts = {verdict for _, verdict in sizes}
    if verdicts == {"floor"}:
        return "every size is at floor: vary easier sizes, or give more --seconds, or other rates with --lr"
    if verdicts == {"ceiling"}:
        return "every size is at ceiling: vary harder sizes, or give fewer --seconds"
    return "sizes go from ceiling to floor at once: vary values between them, or give other --seconds"
