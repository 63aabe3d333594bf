"""Write the planner's law, probing/capacity/scaling_law.csv, from the committed table of experiment 10.

    python -m experiments.harness.papers.scaling_law

Part 3.3 (arXiv 2404.05405), results 1 and 4: bits per parameter by number of exposures. A line holds the mean over
sizes of models that had more to learn than they can store, as interval the least and the most that any single one
stored, and the parameters of the smallest and the largest of them.
"""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness.experiment import select
from experiments.harness.papers.part3_capacity import MIN_SPARE_BITS, measured_law
from experiments.harness.reporting.table import read_table
from probing.capacity.scaling_law import SCALING_LAW_CSV
from probing.text import format_number
from synth.atomic_io import write_bytes

if TYPE_CHECKING:
    from pandas import DataFrame

RESULTS = Path(__file__).resolve().parents[3] / "results"
COLUMNS = ("exposures", "bits_per_parameter", "low", "high", "smallest", "largest", "origin", "source")
PAPER = {100: "result 4): at least 1", 1000: "result 1): at least 2"}  # at the best size


def law_csv(table: "DataFrame", scale: str) -> str:
    """The file's text, from the rows of experiment 10 that the law is read from (its `law_rows`)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    spare = table[table["r_max"] >= MIN_SPARE_BITS]
    for times, numbers in sorted(measured_law(table).items()):
        sizes = spare[spare["times"] == times]["parameters"]
        smallest, largest = int(sizes.min()), int(sizes.max())
        source = (
            f"experiment 10, {scale}: models of {format_number(smallest)} to {format_number(largest)} parameters; "
            "mean over sizes, least and most of any model"
        )
        if times in PAPER:
            source += f"; the paper (Part 3.3, {PAPER[times]} at the best size"
        writer.writerow([times, *(f"{number:.4f}" for number in numbers), smallest, largest, "fit", source])
    return text.getvalue()


def committed_law() -> str:
    """The file's text from the committed table of the largest scale that was run."""
    experiment = select(["10"])[0]
    scale = experiment.scales_with_tables(RESULTS)[-1]
    table = read_table(RESULTS / experiment.name / scale / "table.csv")
    return law_csv(experiment.load_module().law_rows(table), scale)


if __name__ == "__main__":
    write_bytes(SCALING_LAW_CSV, committed_law().encode())
    print(SCALING_LAW_CSV)
