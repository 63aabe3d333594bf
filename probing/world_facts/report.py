"""What a model scores in the four tasks: rows for all facts of a task and for each kind of them, and the table."""

from collections.abc import Mapping, Sequence
from typing import Any

from probing.scoring.metrics import proportion_interval
from probing.world_facts.tasks import TASKS, WORKED_OUT, WorldQuestion

ALL = "all"


def rows(questions: Sequence[WorldQuestion], said: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each task, way of asking (steps) and kind of facts (about; "all" first): accuracy with its 95% interval
    low..high over n questions; chance, what always giving the commonest answer to the same kind of question would
    score; stated, the share of answers whose facts were written out rightly (None without steps)."""
    found = []
    for task in TASKS:
        for steps in (False, True) if task in WORKED_OUT else (False,):
            mine = [question for question in questions if question.task == task and question.steps == steps]
            for about in dict.fromkeys([ALL, *(question.about.name for question in mine)]):
                part = [question for question in mine if about in (ALL, question.about.name)]
                found.append({"task": task, "steps": steps, "about": about, **_scores(part, said)})
    return found


def _scores(questions: Sequence[WorldQuestion], said: Mapping[str, str]) -> dict[str, Any]:
    verdicts = [question.judge(said[question.prompt]) for question in questions]
    n, right = len(verdicts), sum(verdict.right for verdict in verdicts)
    low, high = proportion_interval(right, n)
    stated = [verdict.stated for verdict in verdicts if verdict.stated is not None]
    return {
        "accuracy": right / n, "low": low, "high": high, "chance": sum(q.chance for q in questions) / n, "n": n,
        "unread": sum(verdict.read is None for verdict in verdicts) / n,
        "stated": sum(stated) / len(stated) if stated else None,
    }  # fmt: skip


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows over all kinds of facts as text."""
    head = ("task", "steps", "accuracy", "95% interval", "chance", "n", "unread", "facts stated")
    cells = [head, *(_cells(row) for row in found if row["about"] == ALL)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shown = [[cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
             for line in cells]  # fmt: skip
    return "\n".join("  ".join(line).rstrip() for line in shown)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    steps = ("written out" if row["steps"] else "none") if row["task"] in WORKED_OUT else "-"
    interval = f"{row['low']:.1%} to {row['high']:.1%}"
    stated = "-" if row["stated"] is None else f"{row['stated']:.1%}"
    shares = f"{row['chance']:.1%}", str(row["n"]), f"{row['unread']:.1%}", stated
    return row["task"], steps, f"{row['accuracy']:.1%}", interval, *shares
