"""How much disk runs take, from shapes: models, checkpoints, run folders and tables, in bytes."""

import csv
from pathlib import Path

WEIGHT = 4  # bytes of a parameter on disk (fp32); a run's model is a hard link to the kept one and takes nothing
CHECKPOINT = 3 * WEIGHT  # of a parameter in training: the weight and Adam's two moments
AT_ONCE = 2  # checkpoints of one training while the newer is written: the older goes only when that one is whole
ROW, LOG_EVERY = 130, 10  # bytes of a row of a history, and the steps between two
HISTORIES = 2  # each is in the run's folder and beside the kept model
FOLDER = 8_000  # a run's other files: configurations, digests, provenance
ROWS = 3  # the rows of a run in json, over the same in the table, whose columns are named once
UNKNOWN = 1_000  # bytes of a run in a table where the experiment has none yet


def model_bytes(parameters: int) -> int:
    """A kept model."""
    return WEIGHT * parameters


def checkpoint_bytes(parameters: int) -> int:
    """The checkpoints of one training at their peak."""
    return AT_ONCE * CHECKPOINT * parameters


def folder_bytes(steps: int, row_bytes: float) -> float:
    """A run's folder and the history beside its model, without the models; row_bytes: of the run in the table."""
    return HISTORIES * ROW * (steps / LOG_EVERY) + FOLDER + ROWS * row_bytes


def row_bytes(results: Path, experiment: str) -> float:
    """Bytes that a run takes in the largest committed table of an experiment: measured, not assumed."""
    sizes = []
    for path in results.glob(f"{experiment}/*/table.csv"):
        try:
            with path.open(newline="", errors="replace") as file:
                runs = {row.get("run") for row in csv.DictReader(file)}
        except (csv.Error, OSError):  # damaged, and no table then
            continue
        sizes.append(path.stat().st_size / max(len(runs), 1))
    return max(sizes, default=UNKNOWN)
