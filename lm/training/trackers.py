"""A training shown in TensorBoard, Weights & Biases or trackio while it runs, by accelerate's trackers.

A tracker only displays: metrics.jsonl and history.json hold the same numbers, and everything else reads those. Nothing
goes over the network: Weights & Biases runs offline (`wandb sync` uploads later) and trackio locally. A tracker that
fails prints one line, and training goes on.
"""

import difflib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from synth.errors import UserError

TRACKERS = ("tensorboard", "wandb", "trackio")
PROJECT = "physics-of-lms"
MAX_NAME_CHARS = 200  # of a run's name, which becomes a folder's


def check_tracker(name: str) -> None:
    """Raise UserError for an unknown tracker, with the nearest, and for a missing package, with what to install."""
    if name not in TRACKERS:
        near = difflib.get_close_matches(name, TRACKERS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown tracker {name!r}; {hint}choose one of {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        package = "'physics-of-lms[track]'" if name == "tensorboard" else name  # the extra leaves out the heavier two
        raise UserError(f"tracker {name} needs a package that is missing; pip install {package}")


@contextmanager
def open_tracker(
    name: str, folder: Path, run: str, config: Mapping[str, Any] | None = None
) -> Iterator[Callable[[Mapping[str, float]], None] | None]:
    """Yield the `on_log` for `train` that shows every row of the history in a tracker.

    name: one of TRACKERS; folder: where its files go, created if missing; run: the run's name in the tracker; config:
    plain settings to show beside it. Yields None with name "" and on every rank but the first. The tracker is closed
    however the training ends. Raises UserError as `check_tracker`.
    """
    if name:
        check_tracker(name)
    if not name or not _is_main_process():
        yield None
        return
    tracker = _Tracker(name)
    tracker.attempt(lambda: tracker.open(folder, run, dict(config or {})))
    try:
        yield tracker.log_row
    finally:
        tracker.close()


def _is_main_process() -> bool:
    from lm.training.distributed import dist_context  # creates the accelerate state that its trackers need

    return bool(dist_context().is_main_process)


class _Tracker:
    """One of accelerate's trackers; after a first failure it is not called again."""

    def __init__(self, name: str) -> None:
        self.name, self.failed = name, False
        self.inner: Any = None

    def open(self, folder: Path, run: str, config: dict[str, Any]) -> None:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        with _environment(_variables(self.name, folder)):
            self.inner = OPENERS[self.name](folder, run, config)
            self.inner.start()

    def log_row(self, row: Mapping[str, float]) -> None:
        values = {key: value for key, value in row.items() if key != "step"}
        self.attempt(lambda: self.inner.log(values, step=int(row["step"])))

    def close(self) -> None:
        if self.inner is not None:
            self.attempt(self.inner.finish)

    def attempt(self, act: Callable[[], Any]) -> None:
        if self.failed:
            return
        try:
            with redirect_stdout(io.StringIO()):  # trackers print greetings; standard output is ours
                act()
        except Exception as error:
            self.failed = True
            said = " ".join(str(error).split())[:200] or type(error).__name__
            print(f"warning: {self.name} shows no more of this training ({said}); training goes on", file=sys.stderr)
            with suppress(Exception), redirect_stdout(io.StringIO()):
                self.inner.finish()


def _tensorboard(folder: Path, run: str, config: dict[str, Any]) -> Any:
    from accelerate.tracking import TensorBoardTracker

    run = re.sub(r"[^\w.+=-]+", "-", run)
    if len(run) > MAX_NAME_CHARS:  # drop the middle: the end holds the key that tells trainings apart
        run = run[: MAX_NAME_CHARS // 2] + run[-MAX_NAME_CHARS // 2 :]
    for old in (folder / run).glob("events.out.tfevents.*"):
        old.unlink()  # of an earlier attempt, whose rows are logged again
    return TensorBoardTracker(run, folder)


def _wandb(folder: Path, run: str, config: dict[str, Any]) -> Any:
    import wandb
    from accelerate.tracking import WandBTracker

    settings = wandb.Settings(console="off", silent=True)  # it would capture what is printed, the progress bar too
    return WandBTracker(PROJECT, name=run, dir=folder, mode="offline", config=config, settings=settings)


def _trackio(folder: Path, run: str, config: dict[str, Any]) -> Any:
    import trackio
    from accelerate.tracking import TrackioTracker

    used = Path(trackio.utils.TRACKIO_DIR)  # fixed when trackio is imported
    if used != folder:
        raise RuntimeError(f"in this process it writes to {used}")
    tracker = TrackioTracker(PROJECT, name=run, config=config, auto_log_gpu=False, auto_log_cpu=False)
    tracker.finish = trackio.finish  # accelerate's own leaves the run to be closed again, with a line, at exit
    return tracker


OPENERS = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}


def _variables(name: str, folder: Path) -> dict[str, str | None]:
    """Environment variables while a tracker opens: its folder, and no server to send anything to."""
    if name == "wandb":
        inside = {f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        return {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", **inside}
    if name == "trackio":
        away = dict.fromkeys(("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL", "TRACKIO_BUCKET_ID"))
        return {"TRACKIO_DIR": str(folder), **away}
    return {}


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set these environment variables (None: unset) within the block."""
    before = {name: os.environ.get(name) for name in variables}
    _set_variables(variables)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
