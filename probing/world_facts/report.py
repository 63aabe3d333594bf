"""Scores of a model in the four tasks, over all facts and per relation, as rows and as a text table."""

from collections.abc import Mapping, Sequence
from typing import Any

from probing.scoring.metrics import proportion_interval
from probing.text import align_rows
from probing.world_facts.tasks import TASKS, YES_NO_TASKS, WorldQuestion

ALL = "all"


def score_rows(questions: Sequence[WorldQuestion], responses: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row per task, prompt mode (steps: with the facts stated first) and relation (about; "all" first).

    accuracy, with its 95% interval low..high, over n questions. chance: accuracy of the most frequent answer to the
    questions of each relation. unread: share of responses without a parsable answer. stated: share of responses that
    state all required facts (None without steps). responses: by prompt.
    """
    rows = []
    for task in TASKS:
        for steps in (False, True) if task in YES_NO_TASKS else (False,):
            of_task = [question for question in questions if question.task == task and question.with_steps == steps]
            for about in dict.fromkeys([ALL, *(question.relation.name for question in of_task)]):
                group = [question for question in of_task if about in (ALL, question.relation.name)]
                rows.append({"task": task, "steps": steps, "about": about, **_scores(group, responses)})
    return rows


def _scores(questions: Sequence[WorldQuestion], responses: Mapping[str, str]) -> dict[str, Any]:
    grades = [question.grade(responses[question.prompt]) for question in questions]
    n, correct = len(grades), sum(grade.is_correct for grade in grades)
    low, high = proportion_interval(correct, n)
    stated = [grade.facts_stated for grade in grades if grade.facts_stated is not None]
    return {
        "accuracy": correct / n, "low": low, "high": high, "chance": sum(q.chance for q in questions) / n, "n": n,
        "unread": sum(grade.parsed_answer is None for grade in grades) / n,
        "stated": sum(stated) / len(stated) if stated else None,
    }  # fmt: skip


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows over all relations as a text table."""
    head = ("task", "steps", "accuracy", "95% interval", "chance", "n", "unread", "facts stated")
    return "\n".join(align_rows([head, *(_format_cells(row) for row in rows if row["about"] == ALL)], left=2))


def _format_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    steps = ("written out" if row["steps"] else "none") if row["task"] in YES_NO_TASKS else "-"
    interval = f"{row['low']:.1%} to {row['high']:.1%}"
    stated = "-" if row["stated"] is None else f"{row['stated']:.1%}"
    shares = f"{row['chance']:.1%}", str(row["n"]), f"{row['unread']:.1%}", stated
    return row["task"], steps, f"{row['accuracy']:.1%}", interval, *shares
