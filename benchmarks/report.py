"""Rows as text, as results/benchmarks/table.csv, and as a figure of the ratios."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.timing import Row
from experiments.harness.atomic_io import write_text
from experiments.harness.provenance import ROOT, cores, provenance
from experiments.harness.reporting import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FOLDER = ROOT / "results" / "benchmarks"
FORMAT = "{:<10}  {:<44}  {:>10}  {:<11}  {:>10}  {:>8}  {:<15}  {}"
HEAD = FORMAT.format("name", "case", "ours", "unit", "peer's", "ratio", "bar", "peer")


def line(row: Row) -> str:
    """One row of the readable table."""
    bar = "" if row.bar is None else f"{_short(row.bar, row.bar_on)} {'met' if row.met else 'missed'}"
    return FORMAT.format(
        row.name, row.case, _short(row.value), row.unit, _short(row.peer_value), _short(row.ratio, "ratio"), bar,
        row.peer or "",
    ).rstrip()  # fmt: skip


def _short(number: float | None, kind: str = "value") -> str:
    if number is None:
        return ""
    return f"{number:.3g}x" if kind == "ratio" and number < 100 else f"{number:,.0f}" + "x" * (kind == "ratio")


def machine() -> dict[str, Any]:
    """Columns for the machine, software versions, commit and date of a measurement."""
    import torch

    here = provenance()
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "python": here["python"],
        **here["versions"],
        "git_commit": here["git_commit"],
        "date": here["date"],
    }


def cpu_model() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((one.partition(":")[2].strip() for one in lines if one.startswith("model name")), platform.machine())


def write(rows: Sequence[Row], folder: Path = FOLDER) -> list[Path]:
    """Replace the table's rows of the same benchmarks and devices, draw the figure, and return all paths."""
    import pandas as pd

    where = machine()
    table = pd.DataFrame([{"name": row.name, **asdict(row), **where} for row in rows])
    path = folder / "table.csv"
    if path.exists():
        old = pd.read_csv(path, keep_default_na=False, na_values=[""])
        measured = set(zip(table["name"], table["device"], strict=True))
        others = [pair not in measured for pair in zip(old["name"], old["device"], strict=True)]
        table = pd.concat([old[others], table]) if any(others) else table
    table = table.sort_values("name", kind="stable")
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])  # draw what a later reader of the table would
    with figures.style():
        return [path, *figures.save(figure(table), folder, f"{where['cpu']}, commit {where['git_commit']}")]


def figure(table: "DataFrame") -> "Figure":
    """Ratio to the peer's rate of each case: median (dot), range of the rounds (line), target (tick)."""
    table = table.dropna(subset=["ratio"]).iloc[::-1].reset_index(drop=True)
    bar = table["bar"].where(table["bar_on"] == "ratio", table["bar"] / table["peer_value"])
    drawing, (axes,) = figures.subplots(width=10.0, height=1.5 + 0.34 * len(table))
    hues = dict(zip(sorted(set(table["name"])), figures.colors(table["name"].nunique()), strict=True))
    for y, row in table.iterrows():
        axes.hlines(y, row["low"], row["high"], color=hues[row["name"]], linewidth=2)
        axes.plot(row["ratio"], y, "o", color=hues[row["name"]])
    axes.plot(bar, table.index, "|", color=figures.PAPER_COLOR, markersize=14, markeredgewidth=2, label="target")
    axes.axvline(1, color=figures.BASELINE_COLOR, linestyle=":")
    axes.set_xscale("log")
    names = zip(table["name"], table["case"], table["peer"], strict=True)
    axes.set_yticks(table.index, [f"{name}: {case}\nagainst {peer}" for name, case, peer in names], fontsize=8)
    axes.grid(axis="x")
    axes.set_xlabel("times the rate of what stands after 'against', measured in the same run")
    figures.set_title(
        drawing, "Speed: dots are medians of interleaved rounds, lines their range, ticks what was aimed at"
    )
    axes.legend(loc="lower right")
    return drawing
