"""What a training logs: the rows of its history, metrics.jsonl, the progress bar, and divergence."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lm.config import TrainConfig
from lm.training.lock import unwritable
from synth.atomic_io import write_bytes
from synth.errors import UserError

if TYPE_CHECKING:
    from lm.model import Decoder
    from lm.training.train_state import TrainState

OnStep = Callable[[int, int, float], None]  # step, steps, loss
OnLog = Callable[[Mapping[str, float]], None]  # a row of the history
OnSnapshot = Callable[[int, "Decoder"], bool]  # step, model; True ends the training at this step
METRICS = "metrics.jsonl"


class Diverged(UserError):
    """Loss or weights are no longer finite; a sweep records it and goes on.

    step: the optimizer step at or before which it happened; history: the rows logged until then.
    """

    def __init__(self, message: str, step: int | None = None, history: "History | None" = None) -> None:
        super().__init__(message)
        self.step, self.history = step, history


class History(list[dict[str, float]]):
    """Rows {step, tokens, documents, loss (mean since the last row, nats), lr, seconds}, and totals over the training.

    tokens: inputs that were not padding; documents: those whose last token was a target; exposures (n,) int64: in how
    many batches that reached the optimizer a document about each fixed item ended (None without fixed items).
    """

    tokens: int = 0
    documents: int = 0
    seconds: float = 0.0
    exposures: np.ndarray | None = None


@dataclass
class MetricsLogger:
    """Sends each new row to metrics.jsonl, to on_step or a progress bar, and to on_log, which also gets the rows from
    before a resume. Raises UserError when the file cannot be written."""

    home: Path | None
    run: "TrainState"
    config: TrainConfig
    on_step: OnStep | None
    on_log: OnLog | None = None
    bar: Any = field(default=None, init=False)

    def __enter__(self) -> Callable[[], None]:
        if self.home:
            rows = "".join(json.dumps(row) + "\n" for row in self.run.history)
            try:
                write_bytes(self.home / METRICS, rows.encode())  # rows after the checkpoint will be logged again
            except OSError as error:
                raise unwritable(self.home, error) from error
        for earlier in self.run.history:
            self._show(earlier)
        if self.on_step is None and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=self.config.steps, initial=self.run.step, unit="step", desc="train")
        return self.log_last_row

    def log_last_row(self) -> None:
        row = self.run.history[-1]
        if self.home:
            try:
                with open(self.home / METRICS, "a") as file:
                    file.write(json.dumps(row) + "\n")
            except OSError as error:
                raise unwritable(self.home, error) from error
        self._show(row)
        if self.on_step:
            self.on_step(self.run.step, self.config.steps, row["loss"])
        elif self.bar is not None:
            self.bar.set_postfix(loss=f"{row['loss']:.4f}")
            self.bar.update(self.run.step - self.bar.n)

    def _show(self, row: Mapping[str, float]) -> None:
        if self.on_log:
            self.on_log(row)

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def no_progress(step: int, steps: int, loss: float) -> None:
    """An on_step that shows nothing, for trainings side by side whose bars would overwrite each other."""
