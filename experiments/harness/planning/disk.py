"""How many bytes on disk runs take: models, checkpoints, run folders and tables."""

import csv
from pathlib import Path

BYTES_PER_PARAMETER = 4  # fp32; a run's model is a hard link to the cached one and takes nothing
CHECKPOINT_BYTES_PER_PARAMETER = 3 * BYTES_PER_PARAMETER  # the weight and Adam's two moments
MAX_CHECKPOINTS = 2  # of one training: the older one is deleted only once the newer is written in full
HISTORY_ROW_BYTES, LOG_EVERY = 130, 10  # of one row of a history, and the steps between two
HISTORIES = 2  # in the run's folder and beside the cached model
FOLDER_BYTES = 8_000  # a run's other files: configurations, digests, provenance
JSON_OVER_CSV = 3  # a run's rows in json over the same in the table, whose columns are named once
DEFAULT_ROW_BYTES = 1_000  # of a run in a table where the experiment has none yet


def model_bytes(parameters: int) -> int:
    """A saved model."""
    return BYTES_PER_PARAMETER * parameters


def checkpoint_bytes(parameters: int) -> int:
    """The checkpoints of one training at their peak."""
    return MAX_CHECKPOINTS * CHECKPOINT_BYTES_PER_PARAMETER * parameters


def run_folder_bytes(steps: int, row_bytes: float) -> float:
    """A run's folder and the history beside its model, without the models; row_bytes: of the run in the table."""
    return HISTORIES * HISTORY_ROW_BYTES * (steps / LOG_EVERY) + FOLDER_BYTES + JSON_OVER_CSV * row_bytes


def measure_row_bytes(results_dir: Path, experiment: str) -> float:
    """Bytes that a run takes in the committed tables of an experiment, the most over its scales."""
    sizes = []
    for path in results_dir.glob(f"{experiment}/*/table.csv"):
        try:
            with path.open(newline="", errors="replace") as file:
                runs = {row.get("run") for row in csv.DictReader(file)}
        except (csv.Error, OSError):  # damaged: counts as no table
            continue
        sizes.append(path.stat().st_size / max(len(runs), 1))
    return max(sizes, default=DEFAULT_ROW_BYTES)
