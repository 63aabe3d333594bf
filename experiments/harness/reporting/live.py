"""What a reader sees while an experiment runs: a first figure early, then the table, the figure and the ledger."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.atomic_io import disk_full, write_text
from experiments.harness.execution.execute import finished, read_rows
from experiments.harness.experiment import TABLE, Experiment, claims_of, draw
from experiments.harness.reporting import ledger
from experiments.harness.reporting.table import checksum_path, to_table, write_table
from experiments.harness.run import Run, run_id


class Report:
    """Keeps the results of one experiment at one scale up to date.

    Until all runs of the scale are there, table and figure stand in so_far/, which git ignores: a committed table is
    only ever replaced by a complete one, and not by one of fewer seeds than the scale has.
    """

    def __init__(self, experiment: Experiment, scale: str, runs: Sequence[Run], root: Path, results: Path) -> None:
        self.experiment, self.scale, self.runs, self.root, self.results = experiment, scale, runs, root, results
        self.folder = results / experiment.name / scale
        self.whole = {run_id(run) for run in experiment.runs(scale)} <= {run_id(run) for run in runs}
        self.told = False

    def after(self, run: Run) -> None:
        """Redraw with the runs so far."""
        done = [each for each in self.runs if finished(each, self.root)]
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
            if disk_full(error, self.results):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.results)) from error
            tqdm.write(f"no figure of {len(done)} runs: {error}")
        else:
            if not self.told:
                tqdm.write(f"first figure, redrawn after every run: {paths[0]}")
            self.told = True

    def finish(self) -> None:
        """Write the complete table, the figure and the ledger, and say where they are."""
        folder = self.folder if self.whole else self.folder / "so_far"
        paths = self._write(self.runs, folder, "" if self.whole else "fewer seeds than the scale has")
        paths += [folder / TABLE, checksum_path(folder / TABLE)]
        if self.whole:
            shutil.rmtree(self.folder / "so_far", ignore_errors=True)
            paths += self._write_ledger() if self.experiment.numbered else []
        for path in paths:
            print(path)
        if lost := [run for run in self.runs if any(row.get("diverged") for row in read_rows(run, self.root))]:
            print(f"{len(lost)} of {len(self.runs)} runs diverged and have no metrics, among them {lost[0].label}")
        if not self.whole:
            print(f"{self.folder / TABLE} and the ledger were left as they are: they take all seeds of the scale")

    def _write_ledger(self) -> list[Path]:
        if self.scale == "smoke":  # not part of the ledger, but a test of what the experiment claims
            for claim in claims_of(self.experiment, self.scale, self.results):
                ledger.entry_of(claim, self.experiment)
            return []
        page = self.results / "README.md"
        write_text(page, ledger.markdown(self.results, self.experiment.path.parent))
        return [page]

    def _write(self, runs: Sequence[Run], folder: Path, note: str) -> list[Path]:
        table = to_table([read_rows(run, self.root) for run in runs], self.scale)
        write_table(table, folder / TABLE)
        return draw(self.experiment, folder / TABLE, folder, note)
