"""What a reader sees while an experiment runs: a first figure early, then the table, the figure and the ledger."""

import errno
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.atomic_io import is_disk_full, write_text
from experiments.harness.execution.execute import has_result, read_rows, rows_reader
from experiments.harness.execution.tuning import grid_table
from experiments.harness.experiment import TABLE_NAME, Experiment
from experiments.harness.reporting import ledger
from experiments.harness.reporting.claims import Claim
from experiments.harness.reporting.compare import differences
from experiments.harness.reporting.outputs import (
    GRID_TABLE_NAME,
    claims_from_table,
    draw_figure,
    draw_grid,
    make_claims,
)
from experiments.harness.reporting.table import checksum_path, to_table, write_table
from experiments.harness.run import Run, run_id
from synth.errors import UserError

DRAWING_SHARE = 0.1  # of the time of an experiment, at most, that redrawing takes


class LiveReport:
    """Keeps table and figure of one experiment at one scale up to date.

    Until all runs of the scale have a result, they stand in so_far/, which git ignores: only a complete table, with all
    seeds of the scale, replaces the committed one.
    """

    def __init__(
        self,
        experiment: Experiment,
        scale: str,
        runs: Sequence[Run],
        runs_dir: Path,
        results_dir: Path,
        looks: str = "",
    ) -> None:
        self.experiment, self.scale, self.looks = experiment, scale, looks
        self.runs_dir, self.results_dir = runs_dir, results_dir
        self.folder = results_dir / experiment.name / scale
        self.committed = _claims_or_none(experiment, scale, results_dir)
        self.announced, self.next_drawing = False, 0.0
        self.set_runs(runs)

    def set_runs(self, runs: Sequence[Run]) -> None:
        """The runs that the table is to hold. It is complete with all seeds of the scale, or, with looks, with those
        that the looks have asked for."""
        self.runs = runs
        scale_runs = {run_id(run) for run in self.experiment.runs(self.scale)} if not self.looks else set()
        self.is_complete = scale_runs <= {run_id(run) for run in runs}

    def on_run_done(self, run: Run) -> None:
        """Redraw with the runs that have a result, unless the time since the last drawing is short beside what it
        took."""
        done = [each for each in self.runs if has_result(each, self.runs_dir)]
        if len(done) == len(self.runs) or not done:  # finish() draws the whole; trials of grids come before any run
            return
        if (began := time.monotonic()) < self.next_drawing:
            return
        from tqdm import tqdm

        try:
            paths = self._write(done, self.folder / "so_far", f"{len(done)} of {len(self.runs)} runs so far")
        except FileNotFoundError:  # another command, that ends just now, has removed so_far/
            return
        except OSError:  # results that cannot be written now cannot be written at the end either
            raise
        except Exception as error:  # a figure that needs more runs must not end the ones under way
            if is_disk_full(error, self.results_dir):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.results_dir)) from error
            tqdm.write(f"no figure of {len(done)} runs: {error}")
        else:
            if not self.announced:
                tqdm.write(f"first figure, redrawn while runs end: {paths[0]}")
            self.announced = True
        finally:
            self.next_drawing = time.monotonic() + (time.monotonic() - began) / DRAWING_SHARE

    def write_so_far(self, runs: Sequence[Run]) -> Path:
        """Write the table of these runs into so_far/, and return its path."""
        path = self.folder / "so_far" / TABLE_NAME
        write_table(to_table([read_rows(run, self.runs_dir) for run in runs], self.scale, self.looks), path)
        return path

    def finish(self) -> None:
        """Write the complete table, the figure and the ledger, and print where they are."""
        folder = self.folder if self.is_complete else self.folder / "so_far"
        paths = self._write(self.runs, folder, "" if self.is_complete else "fewer seeds than the scale has")
        paths += [folder / TABLE_NAME, checksum_path(folder / TABLE_NAME)]
        paths += self._write_grid(folder)
        if self.is_complete:
            shutil.rmtree(self.folder / "so_far", ignore_errors=True)
            paths += self._write_ledger() if self.experiment.numbered else []
        for path in paths:
            print(path)
        self._print_claims(folder)
        if lost := [run for run in self.runs if any(row.get("diverged") for row in read_rows(run, self.runs_dir))]:
            print(f"{len(lost)} of {len(self.runs)} runs diverged and have no metrics, among them {lost[0].label}")
        if not self.is_complete:
            print(f"{self.folder / TABLE_NAME} and the ledger were left as they are: they take all seeds of the scale")

    def _print_claims(self, folder: Path) -> None:
        """Print the claims of the table in `folder`, and where they leave the committed result."""
        claims = make_claims(self.experiment, folder / TABLE_NAME, self.scale)
        if claims:
            print(ledger.claims_text(claims))
        if changed := differences(claims, self.committed or ()):
            print("other than the committed result (another processor, or other code):", *changed, sep="\n  ")

    def _write_grid(self, folder: Path) -> list[Path]:
        """Write the table and the figure of the runs' grids, if they have any."""
        table = grid_table(self.runs, rows_reader(self.runs_dir))
        if table is None:
            for name in (GRID_TABLE_NAME, "grid.sha256", "grid.png", "grid.svg"):  # of runs that had one
                (folder / name).unlink(missing_ok=True)
            return []
        write_table(table, folder / GRID_TABLE_NAME)
        return [folder / GRID_TABLE_NAME, *draw_grid(folder, folder)]

    def _write_ledger(self) -> list[Path]:
        if self.scale == "smoke":  # not part of the ledger, but a test of what the experiment claims
            ledger.check_claims(claims_from_table(self.experiment, self.scale, self.results_dir), self.experiment)
            return []
        page = self.results_dir / "README.md"
        write_text(page, ledger.to_markdown(self.results_dir, self.experiment.path.parent))
        return [page]

    def _write(self, runs: Sequence[Run], folder: Path, note: str) -> list[Path]:
        table = to_table([read_rows(run, self.runs_dir) for run in runs], self.scale, self.looks)
        write_table(table, folder / TABLE_NAME)
        return draw_figure(self.experiment, folder / TABLE_NAME, folder, note)


def _claims_or_none(experiment: Experiment, scale: str, results_dir: Path) -> list[Claim] | None:
    """The claims of the table that is there before the runs; None without one, or if it is damaged."""
    try:
        return claims_from_table(experiment, scale, results_dir)
    except UserError:
        return None
