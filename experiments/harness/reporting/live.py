"""What a reader sees while an experiment runs: a first figure early, then the table, the figure and the ledger."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.atomic_io import is_disk_full, write_text
from experiments.harness.execution.execute import has_result, read_rows
from experiments.harness.experiment import TABLE_NAME, Experiment
from experiments.harness.reporting import ledger
from experiments.harness.reporting.outputs import claims_from_table, draw_figure
from experiments.harness.reporting.table import checksum_path, to_table, write_table
from experiments.harness.run import Run, run_id


class LiveReport:
    """Keeps table and figure of one experiment at one scale up to date.

    Until all runs of the scale have a result, they stand in so_far/, which git ignores: only a complete table, with all
    seeds of the scale, replaces the committed one.
    """

    def __init__(
        self, experiment: Experiment, scale: str, runs: Sequence[Run], runs_dir: Path, results_dir: Path
    ) -> None:
        self.experiment, self.scale, self.runs = experiment, scale, runs
        self.runs_dir, self.results_dir = runs_dir, results_dir
        self.folder = results_dir / experiment.name / scale
        self.is_complete = {run_id(run) for run in experiment.runs(scale)} <= {run_id(run) for run in runs}
        self.announced = False

    def on_run_done(self, run: Run) -> None:
        """Redraw with the runs that have a result."""
        done = [each for each in self.runs if has_result(each, self.runs_dir)]
        if len(done) == len(self.runs):
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
                tqdm.write(f"first figure, redrawn after every run: {paths[0]}")
            self.announced = True

    def finish(self) -> None:
        """Write the complete table, the figure and the ledger, and print where they are."""
        folder = self.folder if self.is_complete else self.folder / "so_far"
        paths = self._write(self.runs, folder, "" if self.is_complete else "fewer seeds than the scale has")
        paths += [folder / TABLE_NAME, checksum_path(folder / TABLE_NAME)]
        if self.is_complete:
            shutil.rmtree(self.folder / "so_far", ignore_errors=True)
            paths += self._write_ledger() if self.experiment.numbered else []
        for path in paths:
            print(path)
        if lost := [run for run in self.runs if any(row.get("diverged") for row in read_rows(run, self.runs_dir))]:
            print(f"{len(lost)} of {len(self.runs)} runs diverged and have no metrics, among them {lost[0].label}")
        if not self.is_complete:
            print(f"{self.folder / TABLE_NAME} and the ledger were left as they are: they take all seeds of the scale")

    def _write_ledger(self) -> list[Path]:
        if self.scale == "smoke":  # not part of the ledger, but a test of what the experiment claims
            for claim in claims_from_table(self.experiment, self.scale, self.results_dir):
                ledger.entry_for(claim, self.experiment)
            return []
        page = self.results_dir / "README.md"
        write_text(page, ledger.to_markdown(self.results_dir, self.experiment.path.parent))
        return [page]

    def _write(self, runs: Sequence[Run], folder: Path, note: str) -> list[Path]:
        table = to_table([read_rows(run, self.runs_dir) for run in runs], self.scale)
        write_table(table, folder / TABLE_NAME)
        return draw_figure(self.experiment, folder / TABLE_NAME, folder, note)
